"""Spells what libraries say, and what absl says, as the user types flags."""

import re
from collections.abc import Iterable

from absl import flags as absl_flags

# What one command calls in the singular and another one in the plural.
OTHER_SPELLING = {
    "arm": "arms",
    "arms": "arm",
    "partition": "partitions",
    "partitions": "partition",
    "seed": "seeds",
    "seeds": "seed",
}
COUNTED = {"seeds": "a count: --seeds=3 takes the seeds 0, 1 and 2"}

# What a sweep varies by a flag of its own, in place of --vary.
SWEPT = {
    "arm": "--arms={}",
    "clients": "--clients={}",
    "partition": "--partitions={}",
    "seed": "--seeds=3, which are the seeds 0 to 2 (--vary is for other flags)",
}


def swept(name: str, values: str) -> str:
    """How a sweep takes several values of a flag that takes one elsewhere."""
    return SWEPT.get(name, f'--vary="{name}={{}}"').format(values)


def explained(error: absl_flags.Error, known: Iterable[str]) -> str:
    """What is wrong with a command line that absl refuses, in one sentence."""
    message = str(error).removeprefix("ERROR:: ").replace("\n", " ")
    if isinstance(error, absl_flags.UnrecognizedFlagError):
        name = error.flagname
        other = OTHER_SPELLING.get(name)
        if other is not None and other in known:
            meaning = f", {COUNTED[other]}" if other in COUNTED else ""
            return (
                f"--{name} is a flag of another command: here it is --{other}{meaning}."
            )
    for name, meaning in COUNTED.items():
        if message.startswith(f"flag --{name}="):
            return f"{message.removesuffix('.')}: it is {meaning}."
    return message


def spelled(message: str, names: Iterable[str]) -> str:
    """A library's sentence with its arguments spelled as flags.

    Names with an underscore are arguments wherever they stand; others where the
    sentence says so: `name=value`, `name must ...`, `give name`, `leave out name`.
    """
    for name in sorted(names, key=len, reverse=True):
        free = r"(?<![\w\-=.:/'\"`])"
        message = re.sub(rf"{free}{name}=True\b", f"--{name}", message)
        message = re.sub(rf"{free}{name}=False\b", f"--no{name}", message)
        if "_" in name:
            message = re.sub(rf"{free}{name}(?![\w(/]|\.\w)", f"--{name}", message)
            continue
        message = re.sub(rf"{free}{name}(?==)", f"--{name}", message)
        said = (
            r"must|takes|lies|names|needs at least one value|has no effect|is no|"
            r"is unknown|'"
        )
        message = re.sub(rf"^{name}(?= (?:{said}))", f"--{name}", message)
        message = re.sub(rf"(?<=: ){name}(?= must)", f"--{name}", message)
        verbs = r"give|leave out|set|raise|or|and"
        message = re.sub(
            rf"\b({verbs}) {name}(?=[,.;:] |[.]$)", rf"\1 --{name}", message
        )
        either = rf"\b(give|give either|leave out) {name}(?= (?:or|and)\b)"
        message = re.sub(either, rf"\1 --{name}", message)
        message = re.sub(rf"\b(another) {name}\b", rf"\1 --{name}", message)
    return message
