"""The report's section on privacy: epsilons, adversaries, noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.reports.averages import Cell, Row
from experiments.reports.layout import words
from experiments.reports.markdown import Means, filled_table, number, searches
from fedjax_private.aggregation import SCHEMES
from fedjax_private.runs import ARMS

UNITS = {
    "record": "one record, added to or removed from one client's shard",
    "client": "one client with all its records",
}

# The largest over clients.
EPSILONS = {
    "epsilon, outsiders": "epsilon",
    "epsilon, insiders": "epsilon_insider",
    "the paper's claim": "epsilon_claimed",
}

# These tell lines of the table apart.
ASKED = (
    "dataset",
    "model",
    "algorithm",
    "unit",
    "mechanism",
    "epsilon_target",
    "epsilon_against",
    "directory",
)

NOISE: Means = {
    "delta": ("delta", "g"),
    "noise multiplier": ("noise_multiplier", ".4f"),
    "clip norm": ("clip_norm", "g"),
    "sampling probability": ("sampling_probability", "g"),
    "steps": ("steps", ".0f"),
}


def section(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    """The section's blocks; none where no run has DP."""
    private = [row for row in rows if row["epsilon"] is not None]
    if not private:
        return []
    asked = [name for name in ASKED if _tells(private, name)]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for arm in ARMS:
        for row in private:
            if row["arm"] == arm:
                key = (arm, *(row.get(name) for name in asked), *_given(row))
                groups.setdefault(key, []).append(row)
    body = []
    for (arm, *key), group in groups.items():
        values = key[: len(asked)]
        cell = Cell(arm, "", 0, group)
        epsilons = [
            number(max(cell.values(name), default=None), ".4f")
            for name in EPSILONS.values()
        ]
        noise = [_range(cell.values(name), form) for name, form in NOISE.values()]
        who = ["" if value is None else str(value) for value in values]
        body.append([ARMS[arm].label, *who, *epsilons, *noise])
    head = ["arm", *map(words, asked), *EPSILONS, *NOISE]
    units = dict.fromkeys(row["unit"] or "record" for row in private)
    described = config["runs"].values()
    seeded = any(run["spec"].get("noise_seed") is not None for run in described)
    return [
        "## Privacy",
        filled_table(head, body),
        f"The unit is {'; or '.join(UNITS[unit] for unit in units)}. Epsilon is the "
        "largest over clients (their data are disjoint), from the RDP of "
        f"{_priced(private)}. The adversaries:",
        "\n".join(_adversaries(private, config)),
        *searches(
            run.get("searched_on")
            for run in described
            if ARMS[run["spec"]["arm"]].private
        ),
        (
            "The noise, and who was sampled, came from a seed: whoever knows it can "
            "subtract the noise, so these epsilons are those of a simulation."
            if seeded
            else "The operating system seeded the generator of noise and samples, with "
            "64 bits that are written nowhere, so another run has other noise."
        ),
    ]


def _given(row: Row) -> tuple[Any, ...]:
    """What else tells lines of the table apart."""
    multiplier = None if row.get("epsilon_target") else row["noise_multiplier"]
    names = ("delta", "clip_norm", "sampling_probability")
    return multiplier, *(row.get(name) for name in names)


def _tells(rows: Sequence[Row], name: str) -> bool:
    """Whether a value stands in the table: always who and what, others if they vary."""
    return name in ("algorithm", "unit") or len({row.get(name) for row in rows}) > 1


def _range(values: Sequence[float], form: str) -> str:
    """The only value, or the smallest and the largest; nothing where there is none."""
    if not values:
        return ""
    texts = [format(value, form) for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(texts))


def _priced(rows: Sequence[Row]) -> str:
    """The mechanism whose divergence was computed."""
    mechanisms = dict.fromkeys(row["mechanism"] for row in rows if row["mechanism"])
    if any(name != "gaussian" for name in mechanisms):
        return f"what the mechanism {', '.join(mechanisms)} declares"
    shared = {row["encryption"] for row in rows if row["honest_clients"]} - {None}
    if any(map(_exact, shared)):
        return (
            "the Poisson-subsampled sum of discrete Gaussian shares, where noise is "
            "shared, and of the Gaussian elsewhere"
        )
    return "the Poisson-subsampled Gaussian"


def _exact(scheme: str) -> bool:
    """Whether a scheme adds whole numbers; no for a user's own that is not at hand."""
    try:
        return SCHEMES.find(scheme).exact
    except ValueError:
        return False


def _adversaries(rows: Sequence[Row], config: Mapping[str, Any]) -> Iterator[str]:
    """A line for each arm and adversary; one a client count where they differ."""
    said: dict[tuple[str, str], dict[str, list[int]]] = {}  # -> text -> client counts
    for run in config["runs"].values():
        spec = run["spec"]
        for adversary, text in (run.get("against") or {}).items():
            counts = said.setdefault((spec["arm"], adversary), {}).setdefault(text, [])
            if spec["clients"] not in counts:
                counts.append(spec["clients"])
    arms = {row["arm"] for row in rows}
    several = {arm for arm, adversary in said if adversary == "insiders"}
    for (arm, adversary), texts in said.items():
        if arm not in arms:
            continue
        name = ARMS[arm].label + (f", {adversary}" if arm in several else "")
        for text, counts in texts.items():
            where = f", {', '.join(map(str, counts))} clients" if len(texts) > 1 else ""
            yield f"- {name}{where}: {text}."
