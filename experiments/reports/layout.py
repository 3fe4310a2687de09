"""What varies among cells, and how a comparison is laid out: an axis and panels."""

import dataclasses
import itertools
import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from experiments.reports.averages import Cell
from fedjax_private.runs import ARMS

# Flags whose value stands in rows under another name.
COLUMNS = {"epsilon": "epsilon_target"}

# These place a run rather than set it; with data pooled they have no effect.
PLACES = ("clients", "partition")

LABELS = {
    "epsilon_target": "target epsilon",
    "epsilon_against": "epsilon against",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """An axis and the settings that tell panels apart; a line in a panel is an arm.

    Attributes:
        axis: the setting along the axis.
        panels: the other settings that vary, one panel for each of their combinations.
    """

    axis: str
    panels: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The settings that tell cells of one place apart, for tables."""
        return [name for name in (self.axis, *self.panels) if name not in PLACES]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One panel: what its cells have in common.

    Attributes:
        title: in words.
        cells: of all arms.
    """

    title: str
    cells: list[Cell]


def column(flag: str) -> str:
    """The name under which rows hold a flag's value."""
    return COLUMNS.get(flag, flag)


def words(setting: str) -> str:
    """A setting in words, for axes and heads."""
    return LABELS.get(setting, setting.replace("_", " "))


def shown(value: Any) -> str:
    """A value of a setting, for titles, ticks and tables; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, "g")
    return str(value).lower() if isinstance(value, bool) else str(value)


def varying(cells: Sequence[Cell]) -> list[str]:
    """The settings that differ between cells of one arm, partition and client count.

    Directories come last: where another setting tells runs apart, the directory need
    not.
    """
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    found = []
    for name in names:
        at: dict[Hashable, set[str]] = {}
        for cell in cells:
            place = (cell.arm, cell.partition, cell.clients)
            at.setdefault(place, set()).add(_key(cell.setting(name)))
        if any(len(values) > 1 for values in at.values()):
            found.append(name)
    return sorted(found, key=lambda name: name == "directory")


def columns(cells: Sequence[Cell]) -> list[str]:
    """The settings that tables show: those that vary, and directories, if several."""
    several = len({_key(cell.setting("directory")) for cell in cells}) > 1
    names = varying(cells)
    return names + ["directory"] * (several and "directory" not in names)


def layout(cells: Sequence[Cell], vary: Sequence[str] = ()) -> Layout:
    """Chooses the axis and the panels, so that every cell has a place of its own.

    Args:
        cells: to be shown.
        vary: names of flags that were varied, the first for the axis. Without any, the
            axis is the number of clients, or where that does not vary, a setting that
            does.
    """
    asked = [name for name in map(column, vary) if len(_values(cells, name)) > 1]
    places = [name for name in PLACES if len(_values(cells, name)) > 1]
    others = [name for name in varying(cells) if name not in asked]
    if asked:
        axis = asked[0]
    elif "clients" in places or not others:
        axis = "clients"
    else:
        axis = others[0]
    panels = [name for name in ("partition", "clients", *asked) if name != axis]
    panels = [name for name in panels if name in places or name in asked]
    for name in others:
        if _told_apart(cells, [axis, *panels]):
            break
        if name != axis:
            panels.append(name)
    return Layout(axis, tuple(panels))


def panels(cells: Sequence[Cell], laid_out: Layout) -> list[Panel]:
    """The panels that hold cells, in order.

    A cell that a setting does not concern stands in the panels of all of its values:
    FedAvg beside FedProx with any proximal term.
    """
    axes = [_values(cells, name) for name in laid_out.panels]
    concerned = {
        arm: sum(_concerns(cells, arm, name) for name in laid_out.panels)
        for arm in {cell.arm for cell in cells}
    }
    most = max(concerned.values())
    found: list[tuple[dict[str, Any], list[Cell]]] = []
    for place in itertools.product(*axes):
        wanted = dict(zip(laid_out.panels, place, strict=True))
        inside = _inside(cells, laid_out.axis, wanted)
        # Without a cell of its very own, a panel would repeat others.
        if any(
            concerned[cell.arm] == most and _exact(cell, wanted) == len(wanted)
            for cell in inside
        ):
            found.append((wanted, inside))
    kept = []
    for wanted, inside in found:
        others = [id(c) for other, them in found if other is not wanted for c in them]
        if None in wanted.values() and all(id(cell) in others for cell in inside):
            continue
        kept.append(Panel(_title(wanted) or _title_of(inside[0]), inside))
    return kept


def axis_values(cells: Sequence[Cell], laid_out: Layout) -> list[Any]:
    """The values along the axis, in order; numbers by size."""
    return [v for v in _values(cells, laid_out.axis) if v is not None] or [None]


def level(cell: Cell, laid_out: Layout) -> bool:
    """Whether the setting along the axis does not concern a cell."""
    return not _concerns_cell(cell, laid_out.axis)


def _key(value: Any) -> str:
    return json.dumps(value, default=str)


def _concerns(cells: Sequence[Cell], arm: str, name: str) -> bool:
    """Whether a setting concerns an arm."""
    if name in PLACES:
        return not ARMS[arm].pooled
    return any(cell.setting(name) is not None for cell in cells if cell.arm == arm)


def _values(cells: Sequence[Cell], name: str) -> list[Any]:
    """The values of a setting among the cells that it concerns, in order."""
    concerned = {arm: _concerns(cells, arm, name) for arm in {c.arm for c in cells}}
    of = [cell.setting(name) for cell in cells if concerned[cell.arm]]
    if not of and name in PLACES:
        of = [cell.setting(name) for cell in cells]
    values = list({_key(value): value for value in of}.values())
    numbers = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) for value in numbers):
        return [None] * (None in values) + sorted(numbers)
    return values


def _inside(cells: Sequence[Cell], axis: str, wanted: Mapping[str, Any]) -> list[Cell]:
    """The cells of a panel: for each arm and place on the axis those that fit best."""
    best: dict[Hashable, tuple[int, list[Cell]]] = {}
    for cell in cells:
        fits = all(
            cell.setting(name) == value or not _concerns_cell(cell, name)
            for name, value in wanted.items()
        )
        if not fits:
            continue
        place = (cell.arm, _key(cell.setting(axis)))
        exact, group = best.get(place, (-1, []))
        own = _exact(cell, wanted)
        if own > exact:
            best[place] = (own, [cell])
        elif own == exact:
            group.append(cell)
    return [cell for _, group in best.values() for cell in group]


def _exact(cell: Cell, wanted: Mapping[str, Any]) -> int:
    """How many of the values a cell has."""
    return sum(cell.setting(name) == value for name, value in wanted.items())


def _concerns_cell(cell: Cell, name: str) -> bool:
    """Whether a setting concerns a cell."""
    if name in PLACES:
        return not ARMS[cell.arm].pooled
    return cell.setting(name) is not None


def _told_apart(cells: Sequence[Cell], names: Sequence[str]) -> bool:
    keys = [
        (cell.arm, *(_key(cell.setting(name)) for name in (*names, *PLACES)))
        for cell in cells
    ]
    return len(set(keys)) == len(keys)


def _title(wanted: Mapping[str, Any]) -> str:
    """The values that a panel is for, without those that it has none of."""
    return ", ".join(
        _phrase(name, value) for name, value in wanted.items() if value is not None
    )


def _title_of(cell: Cell) -> str:
    """A title for the only panel."""
    return _phrase("partition", cell.partition)


def _phrase(name: str, value: Any) -> str:
    if name == "partition":
        return "IID" if value == "iid" else f"non-IID ({value})"
    if name == "clients":
        return f"{value} clients"
    if name == "directory":
        return str(value)
    return f"{words(name)} {shown(value)}"
