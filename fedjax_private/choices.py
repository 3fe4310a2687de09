"""Choices of a run by name: entries, their settings, and registries of entries.

Data sets, partitions, models, algorithms, client functions, mechanisms, schemes and
server optimisers are chosen alike. Each is a frozen *entry* in the file that defines
it; a *registry* finds entries by name. A name of the form `module:attribute` finds an
entry of the user's own.

An entry's *settings* are a frozen dataclass whose fields are made by `setting`, which
gives each a default, a help text and a check. Flags, validation and documentation
follow from these fields.
"""

import dataclasses
import functools
import importlib
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from fedjax_private.faults import with_place

# value -> None, or what is wrong with it: "must be at least 1".
Check = Callable[[Any], str | None]


def setting(
    default: Any,
    help: str,
    check: Check | None = None,
    *,
    group: str = "",
    needs: tuple[str, Any] | None = None,
    replaces: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with a help text and a check; see `Settings`.

    Args:
        default: of the field; None for a value that is derived or tuned.
        help: one line for `--help` and for the documentation.
        check: is called with every value but None.
        group: the heading under which `--help` lists it.
        needs: (another setting of the class, its value) without which this one has no
            effect.
        replaces: names of the run's values that have no effect where this one is given.
    """
    metadata = {
        "help": help,
        "check": check,
        "group": group,
        "needs": needs,
        "replaces": replaces,
    }
    return dataclasses.field(default=default, metadata=metadata)


def chosen(
    registry: "Registry[Any]", default: str | None, help: str, *, group: str = ""
) -> Any:
    """A dataclass field that holds a choice of a registry; see `Settings`.

    Names and entries become choices on construction; None stays None.
    """
    metadata = {"help": help, "check": None, "group": group, "registry": registry}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of settings: no fields of its own, and the checks of all fields.

    Raises:
        ValueError: a value fails its check; the sentence begins with the field's name.
    """

    def __post_init__(self) -> None:
        own: Any = type(self)
        scalars = _scalars(own)
        for field in dataclasses.fields(self):
            check, value = field.metadata.get("check"), getattr(self, field.name)
            registry = field.metadata.get("registry")
            if value is None:
                continue
            if registry is not None:
                several = isinstance(value, tuple)
                chosen = (
                    tuple(map(registry.choose, value))
                    if several
                    else registry.choose(value)
                )
                object.__setattr__(self, field.name, chosen)
                continue
            classes, what = scalars.get(field.name, (object, ""))
            if classes is str and isinstance(value, os.PathLike):
                value = os.fspath(value)
                object.__setattr__(self, field.name, value)
            number = what in _NUMBERS
            if not isinstance(value, classes) or (number and isinstance(value, bool)):
                raise ValueError(f"{field.name} must be {what}, got {shown(value)}.")
            if check is not None and (wrong := check(value)) is not None:
                raise ValueError(f"{field.name} {wrong}, got {value}.")


# The type of a field -> the classes of its values, and what to call them.
_NUMBERS = ("a whole number", "a number")
_SCALARS: Mapping[Any, tuple[Any, str]] = {
    int: (numbers.Integral, _NUMBERS[0]),
    float: (numbers.Real, _NUMBERS[1]),
    str: (str, "text"),
    bool: (bool, "True or False"),
}


@functools.cache
def _scalars(settings: type) -> dict[str, tuple[Any, str]]:
    """The fields of a settings class that hold a number, text or a truth value."""
    try:
        hints = typing.get_type_hints(settings)
    except NameError:  # types that are known where the class was written only
        return {}
    scalars = {}
    for name, kind in hints.items():
        union = typing.get_origin(kind) in (typing.Union, types.UnionType)
        options = [k for k in typing.get_args(kind) if k is not type(None)]
        one = kind if not union else options[0] if len(options) == 1 else None
        if isinstance(one, type) and one in _SCALARS:
            scalars[name] = _SCALARS[one]
    return scalars


def check(owner: object, **checks: Check) -> None:
    """Raises ValueError if an attribute of that name, unless None, fails its check."""
    for name, check in checks.items():
        value = getattr(owner, name)
        try:
            wrong = None if value is None else check(value)
        except TypeError as error:
            raise ValueError(f"{name} must be a number, got {shown(value)}.") from error
        if wrong is not None:
            raise ValueError(f"{name} {wrong}, got {value}.")


def check_kind(name: str, value: object, kind: Any, what: str) -> None:
    """Raises ValueError unless a value is of a class.

    Args:
        name: of the argument.
        value: of the argument.
        kind: the class, or a tuple of classes.
        what: what it must be and where to get one: "a Trainer, as clients.sgd returns".
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {what}, got {shown(value)}.")


def check_call(name: str, function: Any, arguments: int, what: str) -> None:
    """Raises ValueError unless a function can be called with so many values.

    Args:
        name: of the argument that holds the function.
        function: is not called.
        arguments: how many, by position.
        what: the signature: "a function (learning rate) -> optax optimiser".
    """
    if not callable(function):
        raise ValueError(f"{name} must be {what}, got {shown(function)}.")
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError as error:
        raise ValueError(
            f"{name} must be {what}, got {shown(function)}: {error}."
        ) from error
    except ValueError:  # it does not tell its signature
        pass


def shown(value: object) -> str:
    """A value in an error message: short ones as they are, others by name or type."""
    if value is None or isinstance(value, (str, numbers.Number)):
        return repr(value)
    return str(getattr(value, "__name__", type(value).__name__))


def at_least(least: int) -> Check:
    """Numbers from `least` on."""
    return lambda value: None if value >= least else f"must be at least {least}"


def between(least: float, most: float) -> Check:
    """Numbers from `least` to `most`, both included."""
    wrong = f"must lie between {least:g} and {most:g}"
    return lambda value: None if least <= value <= most else wrong


def positive(value: float) -> str | None:
    """Finite numbers above 0."""
    return None if 0.0 < value < math.inf else "must be positive and finite"


def not_negative(value: float) -> str | None:
    """Finite numbers from 0 on."""
    return None if 0.0 <= value < math.inf else "must be finite and not negative"


def below_one(value: float) -> str | None:
    """Numbers in [0, 1), such as momentum."""
    return None if 0.0 <= value < 1.0 else "must lie in [0, 1)"


def probability(value: float) -> str | None:
    """Numbers in (0, 1]."""
    return None if 0.0 < value <= 1.0 else "must lie in (0, 1]"


def one_of(*names: str) -> Check:
    """One of some names."""
    wrong = f"must be one of {', '.join(names)}"
    return lambda value: None if value in names else wrong


def kinds(settings: type) -> dict[str, Any]:
    """The type of each field of a settings class, without its `| None`."""
    hints = typing.get_type_hints(settings)
    result = {}
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        result[field.name] = kind
    return result


class Entry(Protocol):
    """What all entries have in common.

    Attributes:
        name: by which it is chosen.
        summary: one line for `--help` and for the documentation.
        settings: its settings' class; `Settings` itself where it has none.
    """

    @property
    def name(self) -> str:
        """By which it is chosen."""

    @property
    def summary(self) -> str:
        """One line for `--help` and for the documentation."""

    @property
    def settings(self) -> type[Settings]:
        """The class of its settings."""


E = TypeVar("E", bound=Entry)


@dataclasses.dataclass(frozen=True)
class Choice(Generic[E]):
    """An entry together with the values of its settings."""

    entry: E
    settings: Any

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name

    def described(self) -> dict[str, Any]:
        """The name and all settings, as config.json holds them."""
        return {"name": self.name, **dataclasses.asdict(self.settings)}


@dataclasses.dataclass(frozen=True, eq=False)
class Registry(Generic[E]):
    """The entries of one kind.

    Attributes:
        kind: what is chosen, as the field and the flag are called: "partition".
        entry: the entries' class.
        built_in: name -> "module:attribute" of the entry; read when first asked for.
        adapt: (name, attribute of a user's module) -> entry, for attributes that are no
            entry, such as a bare function. Raises ValueError where it cannot. None
            takes entries only.
        matched: name -> the entry that names of its form stand for, under the whole
            name (`csv:FILE`), or None. Is asked before `module:attribute`.
    """

    kind: str
    entry: type[E]
    built_in: Mapping[str, str]
    adapt: Callable[[str, Any], E] | None = None
    matched: Callable[[str], E | None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the built-in entries, in order."""
        return tuple(self.built_in)

    def __iter__(self) -> Iterator[str]:
        """The names of the built-in entries, in order."""
        return iter(self.built_in)

    def entries(self) -> list[E]:
        """The built-in entries, in order."""
        return [self.find(name) for name in self.built_in]

    def matching(self, name: str) -> E | None:
        """The entry that `matched` finds; None for built-in names and paths."""
        if name in self.built_in or self.matched is None:
            return None
        return self.matched(name)

    def find(self, name: str) -> E:
        """The entry of a name, or of a user's own `module:attribute`.

        Raises:
            ValueError: there is none; the sentence says what can be chosen.
        """
        if (matching := self.matching(name)) is not None:
            return matching
        path = self.built_in.get(name, name)
        module, colon, attribute = path.partition(":")
        if not (module and colon and attribute):
            raise ValueError(
                f"{self.kind} {name!r} is unknown: choose one of "
                f"{', '.join(self.names)}, or your own as module:attribute."
            )
        try:
            attribute_found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a user's module may raise anything
            reason = with_place(error).rstrip(".")
            if module.endswith(".py"):
                plain = module.removesuffix(".py").replace("/", ".").strip(".")
                reason = f"leave out .py and name {plain}:{attribute}"
            raise ValueError(f"{self.kind}={name}: {reason}.") from error
        if name in self.built_in:
            entry: E = attribute_found
            return entry
        if not isinstance(attribute_found, self.entry) and self.adapt is None:
            raise ValueError(
                f"{self.kind}={name}: {attribute} is no {self.entry.__name__}."
            )
        try:
            return _named(self, attribute_found, name)
        except TypeError:  # not hashable: made anew each time
            return _named.__wrapped__(self, attribute_found, name)

    def choose(self, which: Any, values: Mapping[str, Any] | None = None) -> Choice[E]:
        """An entry with its settings.

        Args:
            which: a name, an entry, or a choice; or what a user's `module:attribute`
                may hold, such as a function.
            values: of settings that are not to have their defaults, or the choice's
                values.

        Raises:
            ValueError: no such entry, a setting that the entry does not have, or a
                value that fails its check.
        """
        if isinstance(which, Choice) and isinstance(which.entry, self.entry):
            if not values:
                return which
            held = {n: getattr(which.settings, n) for n in settings_of(which.entry)}
            which, values = which.entry, {**held, **values}
        if isinstance(which, str):
            entry = self.find(which)
        elif isinstance(which, self.entry):
            entry = which
        elif self.adapt is not None and not isinstance(which, Choice):
            name = getattr(which, "__name__", None) or getattr(which, "name", None)
            entry = self.adapt(name or type(which).__name__, which)
        else:
            raise ValueError(
                f"{self.kind} must be a name or an entry, got {shown(which)}."
            )
        known = settings_of(entry)
        form = 'settings by name, such as {"alpha": 0.5}'
        check_kind("values", values, (Mapping, type(None)), form)
        for name in values or {}:
            if name not in known:
                has = f": it has {', '.join(known)}." if known else ", which has none."
                raise ValueError(
                    f"{name} is no setting of {self.kind} {entry.name}{has}"
                )
        return Choice(entry, entry.settings(**dict(values or {})))


@functools.lru_cache(maxsize=256)
def _named(registry: Registry[E], attribute: Any, name: str) -> E:
    """A user's entry under the name by which it is found again, the same each time."""
    if isinstance(attribute, registry.entry):
        named: E = dataclasses.replace(attribute, name=name)  # type: ignore[type-var]
        return named
    assert registry.adapt is not None
    return registry.adapt(name, attribute)


def settings_of(entry: Entry) -> tuple[str, ...]:
    """The names of the settings that an entry uses.

    Entries may share a settings class; `ignores`, where an entry has it, names what the
    entry does not use, such as fields of that class.
    """
    ignored = getattr(entry, "ignores", ())
    names = (field.name for field in dataclasses.fields(entry.settings))
    return tuple(name for name in names if name not in ignored)


def without_effect(settings: Settings) -> dict[str, str]:
    """Setting -> why it has no effect beside the others' values; see `setting`."""
    reasons = {}
    for field in dataclasses.fields(settings):
        other, value = field.metadata.get("needs") or (None, None)
        if other is not None and getattr(settings, other) != value:
            reasons[field.name] = (
                f"{field.name} has no effect: it needs {other}={value}; give that, or "
                "leave it out."
            )
    return reasons
