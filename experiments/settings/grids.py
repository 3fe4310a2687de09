"""Values of many flags at once: grids of them, and the specs that they make."""

import dataclasses
import itertools
import re
from collections.abc import Collection, Mapping
from typing import Any

from experiments.settings import flags
from fedjax_private import runs
from fedjax_private.choices import Choice, kinds, settings_of

# Name of a flag -> value as text.
Values = Mapping[str, str]


def axes(text: str, argument: str) -> dict[str, tuple[str, ...]]:
    """The values of each name of a grid.

    Args:
        text: "epsilon=0.5,1;learning_rate=0.1,0.2"; white space separates as well.
        argument: that holds the text, for messages.

    Raises:
        ValueError: the text has another form, or names something twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in re.split(r"\s*;\s*|\s+(?=\w+=)", text.strip(" ;")):
        if not part:
            continue
        name, _, given = part.partition("=")
        values = tuple(value.strip() for value in given.split(","))
        if not (re.fullmatch(r"\w+", name) and all(values)):
            raise ValueError(f"{argument} takes name=a,b pairs, got {part!r}.")
        if name in found:
            raise ValueError(f"{argument} names {name!r} twice.")
        if len(set(values)) < len(values):
            raise ValueError(f"{argument} names a value of {name!r} twice.")
        found[name] = values
    return found


def combinations(text: str, argument: str) -> list[dict[str, str]]:
    """All combinations of a grid's values; see `axes`."""
    pairs = [
        [(name, value) for value in values]
        for name, values in axes(text, argument).items()
    ]
    return [dict(choice) for choice in itertools.product(*pairs)]


def spec_with(
    base: runs.Spec,
    values: Values,
    argument: str,
    *,
    fields: Collection[str],
    lenient: bool = False,
) -> runs.Spec:
    """The spec with values of its fields, or of its entries' settings.

    A setting that several of its entries have is set in all of them, as by its flag.

    Args:
        base: what else holds.
        values: as text; names of entries are read before their settings.
        argument: that holds the values, for messages.
        fields: which of the spec's fields may be given, with the settings of the
            entries that these hold.
        lenient: leaves out names that are settings of no entry of this spec.

    Raises:
        ValueError: a name is no field or setting, or a value is bad.
    """
    known = {f.name: f for f in flags.flags_of(runs.Spec) if f.name in fields}
    changes = {
        name: _converted(known[name].kind, name, text, argument)
        for name, text in values.items()
        if name in known
    }
    spec = dataclasses.replace(base, **changes)
    for name in values.keys() - known.keys():
        owners = _owners_of(spec, name, fields)
        if not owners and not lenient:
            raise ValueError(f"{argument} names {name!r}, which is nothing to vary.")
        for owner in owners:
            spec = _with_setting(spec, owner, name, values[name], argument)
    return spec


def has(spec: runs.Spec, name: str, fields: Collection[str]) -> bool:
    """Whether a name is one of the fields, or a setting of what these choose."""
    return name in fields or bool(_owners_of(spec, name, fields))


def _owners_of(spec: runs.Spec, name: str, fields: Collection[str]) -> list[str]:
    """The fields whose choices have a setting of that name."""
    choices = {field: getattr(spec, field, None) for field in fields}
    return [
        field
        for field, choice in choices.items()
        if isinstance(choice, Choice) and name in settings_of(choice.entry)
    ]


def _with_setting(
    spec: runs.Spec, owner: str, name: str, text: str, argument: str
) -> runs.Spec:
    choice: Choice[Any] = getattr(spec, owner)
    kind = kinds(choice.entry.settings)[name]
    value = _converted(kind, name, text, argument)
    settings = dataclasses.replace(choice.settings, **{name: value})
    changed = dataclasses.replace(choice, settings=settings)
    return dataclasses.replace(spec, **{owner: changed})


def _converted(kind: Any, name: str, text: str, argument: str) -> Any:
    try:
        return flags.convert(kind, text)
    except (ValueError, TypeError):
        raise ValueError(
            f"{argument}: {name} takes {flags.expects(kind)}, got {text!r}."
        ) from None
