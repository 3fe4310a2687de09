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

# Runs that differ in these are never compared without a word, wherever they are placed:
# these have columns, and data sets also panels of their own.
KINDS = ("dataset", "model", "directory")

# Stands for the value of a hyper-parameter that was not given, in panels: tuned values
# differ from arm to arm, which should not stand in panels apart for that.
TUNED = "tuned"

# Stands for the null of a setting along an axis, where an arm also has values of it.
NOT_SET = "not set"

LABELS = {
    "epsilon_target": "target epsilon",
    "epsilon_against": "epsilon against",
    "dataset": "data set",
    "repeated_run": "run",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """An axis and the settings that tell panels apart; a line in a panel is an arm.

    Attributes:
        axis: the setting along the axis.
        panels: the other settings that vary, one panel for each of their combinations.
        exact: whether panels tell tuned values apart, without which cells would share
            a place.
    """

    axis: str
    panels: tuple[str, ...]
    exact: bool = False

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


def tick(value: Any) -> str:
    """A value along an axis, where null needs a word too."""
    return NOT_SET if value is None else shown(value)


def varying(cells: Sequence[Cell], exact: bool = True) -> list[str]:
    """The settings that differ between cells of one arm, partition and client count.

    Directories come last: where another setting tells runs apart, the directory need
    not.

    Args:
        cells: to be compared.
        exact: whether tuned values count by themselves, or all as `TUNED`.
    """
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    found = []
    for name in names:
        at: dict[Hashable, set[str]] = {}
        for cell in cells:
            place = (cell.arm, cell.partition, cell.clients)
            at.setdefault(place, set()).add(_key(_value(cell, name, exact)))
        if any(len(values) > 1 for values in at.values()):
            found.append(name)
    return sorted(found, key=lambda name: name == "directory")


def columns(cells: Sequence[Cell]) -> list[str]:
    """The settings that tables show: those that vary, and `KINDS`, if several."""
    return list(dict.fromkeys([*varying(cells), *kinds(cells)]))


def kinds(cells: Sequence[Cell]) -> list[str]:
    """Those of `KINDS` that differ between cells."""
    return [name for name in KINDS if len(_values(cells, name)) > 1]


def layout(cells: Sequence[Cell], vary: Sequence[str] = ()) -> Layout:
    """Chooses the axis and the panels, so that every cell has a place of its own.

    Args:
        cells: to be shown.
        vary: names of flags that were varied, the first for the axis. Without any, the
            axis is the number of clients, or where that does not vary, a setting that
            does.
    """
    found = _layout(cells, vary, exact=False)
    if _told_apart(cells, found):
        return found
    return _layout(cells, vary, exact=True)


def _layout(cells: Sequence[Cell], vary: Sequence[str], exact: bool) -> Layout:
    """The same; without `exact` cells may share a place."""
    asked = [name for name in map(column, vary) if len(_values(cells, name)) > 1]
    places = [name for name in PLACES if len(_values(cells, name)) > 1]
    others = [name for name in varying(cells, exact) if name not in asked]
    several = "dataset" in kinds(cells)
    if asked:
        axis = asked[0]
    elif "clients" in places or not others:
        axis = "clients"
    else:
        axis = others[0]
    first = ["dataset"] * several + [name for name in PLACES[::-1] if name in places]
    panels = [name for name in dict.fromkeys([*first, *asked]) if name != axis]
    for name in others:
        if _told_apart(cells, Layout(axis, tuple(panels), exact)):
            break
        if name != axis and name not in panels:
            panels.append(name)
    return Layout(axis, tuple(panels), exact)


def panels(cells: Sequence[Cell], laid_out: Layout) -> list[Panel]:
    """The panels that hold cells, in order.

    A cell that a setting does not concern stands in the panels of all of its values:
    FedAvg beside FedProx with any proximal term. Every cell stands in some panel.
    """
    kept = _panels(cells, laid_out)
    seen = {_identity(cell) for panel in kept for cell in panel.cells}
    left_over: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        if _identity(cell) not in seen:
            seen.add(_identity(cell))
            key = _key(_own(cell, laid_out))
            left_over.setdefault(key, []).append(cell)
    for inside in left_over.values():
        title = _title(_own(inside[0], laid_out)) or _title_of(inside[0])
        kept.append(Panel(title, inside))
    return kept


def _own(cell: Cell, laid_out: Layout) -> dict[str, Any]:
    """A cell's own values of the settings that tell panels apart."""
    return {name: _value(cell, name, laid_out.exact) for name in laid_out.panels}


def _identity(cell: Cell) -> Hashable:
    """What tells a cell from all others; pooled arms repeat theirs at every place."""
    pooled = PLACES if ARMS[cell.arm].pooled else ()
    return _key(
        sorted((n, _key(v)) for n, v in cell.settings.items() if n not in pooled)
    )


def _panels(cells: Sequence[Cell], laid_out: Layout) -> list[Panel]:
    """The panels for combinations of values."""
    exact = laid_out.exact
    axes = [_values(cells, name, exact) for name in laid_out.panels]
    concerned = {
        arm: sum(_concerns(cells, arm, name) for name in laid_out.panels)
        for arm in {cell.arm for cell in cells}
    }
    most = max(concerned.values())
    found: list[tuple[dict[str, Any], list[Cell]]] = []
    for place in itertools.product(*axes):
        wanted = dict(zip(laid_out.panels, place, strict=True))
        inside = _inside(cells, laid_out.axis, wanted, exact)
        # Without a cell of its very own, a panel would repeat others.
        if any(
            concerned[cell.arm] == most and _matches(cell, wanted, exact) == len(wanted)
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
    """The values along the axis, in order; numbers by size.

    None stands last, where an arm of a panel has it beside values.
    """
    values = [v for v in _values(cells, laid_out.axis) if v is not None]
    mixed = any(
        not level(line, laid_out)
        and any(cell.setting(laid_out.axis) is None for cell in line)
        for panel in panels(cells, laid_out)
        for line in lines(panel).values()
    )
    return values + [None] * (mixed or not values)


def lines(panel: Panel) -> dict[str, list[Cell]]:
    """Arm -> its cells in a panel, in the order of `ARMS`."""
    found = {arm: [c for c in panel.cells if c.arm == arm] for arm in ARMS}
    return {arm: line for arm, line in found.items() if line}


def level(line: Sequence[Cell], laid_out: Layout) -> bool:
    """Whether the setting along the axis concerns no cell of an arm in a panel."""
    return not any(_concerns_cell(cell, laid_out.axis) for cell in line)


def along(
    line: Sequence[Cell], values: Sequence[Any], laid_out: Layout
) -> list[Cell | None]:
    """The cell of an arm at each value of the axis; everywhere the same if level."""
    at = {_key(cell.setting(laid_out.axis)): cell for cell in line}
    everywhere = line[0] if level(line, laid_out) else None
    return [at.get(_key(value), everywhere) for value in values]


def missing(cells: Sequence[Cell], placed: Sequence[Cell]) -> list[Cell]:
    """The cells that stand at no place."""
    seen = set(map(_identity, placed))
    return [cell for cell in cells if _identity(cell) not in seen]


def _key(value: Any) -> str:
    return json.dumps(value, default=str)


def _value(cell: Cell, name: str, exact: bool) -> Any:
    """The value of a setting, for panels; see `TUNED`."""
    value = cell.setting(name)
    apart = exact or value is None or not cell.tuned(name)
    return value if apart else TUNED


def _concerns(cells: Sequence[Cell], arm: str, name: str) -> bool:
    """Whether a setting concerns an arm."""
    if name in PLACES:
        return not ARMS[arm].pooled
    return any(cell.setting(name) is not None for cell in cells if cell.arm == arm)


def _values(cells: Sequence[Cell], name: str, exact: bool = True) -> list[Any]:
    """The values of a setting among the cells that it concerns, in order."""
    concerned = {arm: _concerns(cells, arm, name) for arm in {c.arm for c in cells}}
    of = [_value(cell, name, exact) for cell in cells if concerned[cell.arm]]
    if not of and name in PLACES:
        of = [cell.setting(name) for cell in cells]
    values = list({_key(value): value for value in of}.values())
    numbers = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) for value in numbers):
        return [None] * (None in values) + sorted(numbers)
    if TUNED in numbers:  # first, before the values that were given
        given = [value for value in numbers if value != TUNED]
        given = (
            sorted(given) if all(isinstance(v, (int, float)) for v in given) else given
        )
        return [None] * (None in values) + [TUNED, *given]
    return values


def _inside(
    cells: Sequence[Cell], axis: str, wanted: Mapping[str, Any], exact: bool
) -> list[Cell]:
    """The cells of a panel: for each arm and place on the axis those that fit best."""
    best: dict[Hashable, tuple[int, Cell]] = {}
    for cell in cells:
        fits = all(
            _value(cell, name, exact) == value or not _concerns_cell(cell, name)
            for name, value in wanted.items()
        )
        if not fits:
            continue
        place = (cell.arm, _key(cell.setting(axis)))
        own = _matches(cell, wanted, exact)
        if place not in best or own > best[place][0]:
            best[place] = (own, cell)
    return [cell for _, cell in best.values()]


def _matches(cell: Cell, wanted: Mapping[str, Any], exact: bool) -> int:
    """How many of the values a cell has."""
    return sum(_value(cell, name, exact) == value for name, value in wanted.items())


def _concerns_cell(cell: Cell, name: str) -> bool:
    """Whether a setting concerns a cell."""
    if name in PLACES:
        return not ARMS[cell.arm].pooled
    return cell.setting(name) is not None


def _told_apart(cells: Sequence[Cell], laid_out: Layout) -> bool:
    keys = [
        (
            cell.arm,
            *(_key(cell.setting(name)) for name in (laid_out.axis, *PLACES)),
            *(_key(_value(cell, name, laid_out.exact)) for name in laid_out.panels),
        )
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
    if name in ("dataset", "directory"):
        return str(value)
    if value == TUNED:
        return f"{words(name)} tuned, not given"
    return f"{words(name)} {shown(value)}"
