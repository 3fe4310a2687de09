"""Maps absl flags onto settings. The only place that reads flags.

Flags follow from the fields of settings classes. A field that holds a choice, such as
`partition`, brings the settings of all entries along as flags, also those of an entry
of the user's own that the command line names. Each command has flags of its own (no
global registry), a short grouped `--help` with exit status 0, and answers bad input
with one sentence and exit status 2.
"""

import dataclasses
import functools
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from absl import flags as absl_flags

from experiments.settings.spellings import explained, spelled, swept
from fedjax_private.choices import Check, Entry, Registry, kinds, settings_of

T = TypeVar("T")

BAD_INPUT = 2
HELP_WIDTH = 88
# The console script, which `experiments.__main__` is.
PROGRAM = "fedjax-private"


class _Parser(absl_flags.ArgumentParser):  # type: ignore[type-arg]
    """Turns text into a value of a field's type, or says what was expected."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        try:
            return convert(self.kind, argument)
        except (ValueError, TypeError):
            raise ValueError(f"takes {expects(self.kind)}, got {argument!r}.") from None


def _item(kind: Any) -> Any:
    return typing.get_args(kind)[0]


def convert(kind: Any, text: str) -> Any:
    """Turns text into a value of a type, or raises ValueError."""
    if typing.get_origin(kind) is tuple:
        return tuple(convert(_item(kind), part.strip()) for part in text.split(","))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"true or false, got {text!r}.")
        return text.lower() == "true"
    return kind(text)


def expects(kind: Any) -> str:
    """What values of a type are called."""
    names = {int: "a whole number", float: "a number", str: "text"}
    if typing.get_origin(kind) is tuple:
        plural = {int: "whole numbers", float: "numbers", str: "names"}[_item(kind)]
        return f"{plural} separated by commas"
    return names.get(kind, getattr(kind, "__name__", str(kind)))


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: of the flag and of the field.
        kind: type of its values.
        default: as `--help` shows it.
        help: one line.
        group: heading in `--help`.
        registry: where its value, or each of its values, is a name of an entry.
        check: value -> None, or what is wrong with it.
    """

    name: str
    kind: Any
    default: Any
    help: str
    group: str
    registry: Registry[Any] | None = None
    check: Check | None = None

    def takes(self, text: str) -> bool:
        """Whether a text is a value of the flag."""
        try:
            value = convert(self.kind, text)
            if self.registry is not None:
                self.registry.find(value)
            return self.check is None or self.check(value) is None
        except (ValueError, TypeError):
            return False


def flags_of(config: type, leave_out: Iterable[str] = ()) -> list[Flag]:
    """The flags of a settings class: its fields that have a help text."""
    title = (config.__doc__ or "").strip().splitlines()[0].rstrip(".")
    types, flags = kinds(config), []
    for field in dataclasses.fields(config):
        if "help" not in field.metadata or field.name in leave_out:
            continue
        registry, text = field.metadata.get("registry"), field.metadata["help"]
        kind = types[field.name]
        if registry is not None:
            kind = kind if typing.get_origin(kind) is tuple else str
            text += f": {', '.join(registry)}, or module:attribute of your own"
        group = field.metadata.get("group") or title
        check = field.metadata.get("check")
        flag = Flag(field.name, kind, field.default, text, group, registry, check)
        flags.append(flag)
    return flags


def _settings_flags(registry: Registry[Any], entries: Iterable[Entry]) -> list[Flag]:
    """The flags of the settings of some entries; one flag where they share it."""
    flags: dict[str, Flag] = {}
    owners: dict[str, list[str]] = {}
    for entry in entries:
        known = settings_of(entry)
        for flag in flags_of(entry.settings):
            if flag.name in known:
                flags.setdefault(flag.name, flag)
                owners.setdefault(flag.name, []).append(entry.name)
    return [
        dataclasses.replace(
            flag,
            help=f"{flag.help} ({', '.join(owners[flag.name])})",
            group=f"Settings of {registry.kind}",
            registry=None,
        )
        for flag in flags.values()
    ]


def _values(flags: Iterable[Flag]) -> absl_flags.FlagValues:
    values = absl_flags.FlagValues()
    for flag in flags:
        define: Callable[..., Any] = absl_flags.DEFINE_boolean
        if flag.kind is not bool:
            define = functools.partial(absl_flags.DEFINE, _Parser(flag.kind))
        define(flag.name, flag.default, flag.help, flag_values=values)
    return values


def _help(usage: str, flags: Sequence[Flag]) -> str:
    lines = [usage, ""]
    for group in dict.fromkeys(flag.group for flag in flags):
        lines.append(f"{group}.")
        for flag in flags:
            if flag.group != group:
                continue
            default = flag.default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            unset = default is None or default is False
            lines += textwrap.wrap(
                f"--{flag.name:<21} {flag.help}{'' if unset else f' [{default}]'}",
                HELP_WIDTH,
                initial_indent=" " * 2,
                subsequent_indent=" " * 26,
            )
        lines.append("")
    lines.append("  --flagfile              reads flags from a file, one a line")
    return "\n".join(lines)


def as_called(usage: str, program: str) -> str:
    """A usage text with its commands as the user calls them.

    Args:
        usage: with commands as `python -m experiments.NAME`.
        program: argv[0], which begins with PROGRAM where the console script runs.
    """
    if not program.startswith(PROGRAM):
        return usage
    return re.sub(r"python -m experiments\.(?=\w)", f"{PROGRAM} ", usage)


def fail(message: str, names: Iterable[str] = ()) -> NoReturn:
    """Ends the command for bad input: one line on stderr, exit status 2."""
    print(f"error: {spelled(message, names)}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Validated settings, by class, and what was given by name.

    Attributes:
        configs: class -> instance.
        given: names of the flags that were given.
        names: of all flags.
        arguments: what stood beside flags.
    """

    configs: Mapping[type, Any]
    given: frozenset[str]
    names: frozenset[str]
    arguments: tuple[str, ...] = ()

    def __getitem__(self, config: type[T]) -> T:
        result: T = self.configs[config]
        return result

    def fail(self, message: str) -> NoReturn:
        """Ends the command for bad input."""
        fail(message, self.names)

    def checked(self, action: Callable[[], T]) -> T:
        """Runs a check that precedes all work; a ValueError becomes bad input."""
        try:
            return action()
        except ValueError as error:
            self.fail(str(error))


def parse(
    usage: str,
    configs: Sequence[type],
    argv: Sequence[str],
    leave_out: Iterable[str] = (),
    arguments: str = "",
    varied: type | None = None,
) -> Parsed:
    """Parses a command line onto settings classes.

    Args:
        usage: first lines of `--help`.
        configs: settings classes; a field that an earlier one has is no flag of a
            later one.
        argv: as sys.argv.
        leave_out: fields that are no flags of this command.
        arguments: what may stand beside flags, such as DIR; empty where nothing may.
        varied: the class whose values, with the settings of its entries, a sweep can
            vary; a list of them is answered by how.

    Raises:
        SystemExit: 0 after --help; 2 with one sentence after bad input.
    """
    of_config: dict[type, list[Flag]] = {}
    seen = set(leave_out)
    for config in configs:
        of_config[config] = flags_of(config, seen)
        seen.update(flag.name for flag in of_config[config])
    flags = [flag for each in of_config.values() for flag in each]
    registries = {f.registry.kind: f.registry for f in flags if f.registry is not None}
    names = [flag.name for flag in flags]
    several = [] if varied is None else of_config[varied]
    _refuse_lists(several, argv)
    try:
        own = _own_entries(flags, argv)
    except ValueError as error:
        fail(str(error), names)
    of_entries = {}
    for registry in registries.values():
        entries = [*registry.entries(), *own.get(registry.kind, ())]
        for flag in _settings_flags(registry, entries):
            if flag.name in names:
                fail(
                    f"{flag.name} is a setting of {registry.kind} and the name of "
                    "another flag: rename the setting."
                )
            of_entries[flag.name] = flag
    flags += of_entries.values()
    _refuse_repeats(flags, argv)
    if varied is not None:
        _refuse_lists(of_entries.values(), argv)
    if any(arg in ("--help", "-h", "--helpfull", "-help") for arg in argv[1:]):
        print(_help(as_called(usage, argv[0]), flags))
        raise SystemExit(0)
    values = _values(flags)
    try:
        if arguments:
            values.set_gnu_getopt()  # flags may stand between arguments
        rest = values(list(argv))[1:]
    except absl_flags.Error as error:
        fail(explained(error, values))
    if rest and not arguments:
        fail(f"unexpected argument {rest[0]!r}: flags look like --name=value.")
    given = frozenset(name for name in values if values[name].present)
    settings = {name: values[name].value for name in of_entries if name in given}
    names = [flag.name for flag in flags]
    built: dict[type, Any] = {}
    used: set[str] = set()
    try:
        for config in configs:
            fields = {}
            for flag in of_config[config]:
                value = values[flag.name].value
                if flag.registry is not None and value is not None:
                    value = _chosen(flag, value, settings, used)
                fields[flag.name] = value
            built[config] = config(**fields)
    except ValueError as error:
        fail(str(error), names)
    for name in settings:
        if name not in used:
            of = of_entries[name]
            owner = of.help.rpartition("(")[2].rstrip(")")
            kind = of.group.removeprefix("Settings of ")
            fail(f"--{name} has no effect: it is a setting of {kind} {owner}.")
    return Parsed(built, given, frozenset(names), tuple(rest))


def _chosen(flag: Flag, value: Any, settings: Mapping[str, Any], used: set[str]) -> Any:
    """A choice, or a tuple of them, with the settings that were given."""
    assert flag.registry is not None
    if isinstance(value, tuple):
        return tuple(_chosen(flag, each, settings, used) for each in value if each)
    entry = flag.registry.find(value)
    known = {name: settings[name] for name in settings_of(entry) if name in settings}
    used.update(known)
    return flag.registry.choose(entry, known)


def _refuse_lists(flags: Iterable[Flag], argv: Sequence[str]) -> None:
    """Ends the command where several values are given to a flag that takes one."""
    for flag in flags:
        if typing.get_origin(flag.kind) is tuple or flag.kind is bool:
            continue
        text = _given(flag.name, argv) or ""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 1 and not flag.takes(text) and all(map(flag.takes, parts)):
            fail(
                f"--{flag.name} takes one value, got {text!r}: for a run with each, "
                f"give experiments.sweep {swept(flag.name, text)}."
            )


def _refuse_repeats(flags: Sequence[Flag], argv: Sequence[str]) -> None:
    """Ends the command where a flag is given twice, of which only the last would count.

    What a file of flags gives, the command line may give anew.
    """
    typed = [arg for arg in argv if not re.match("--?flagfile(=|$)", arg)]
    values = _read_ahead(flags, typed)
    for flag in flags:
        if values is not None and values[flag.name].present > 1:
            several = typing.get_origin(flag.kind) is tuple
            way = ", with commas between its values" if several else ""
            fail(f"--{flag.name} is given more than once: give it once{way}.")


def _given(name: str, argv: Sequence[str]) -> str | None:
    """The text that a flag is given on a command line; None where it is not."""
    values = _read_ahead([Flag(name, str, None, "", "")], argv)
    text: str | None = None if values is None else values[name].value
    return text


def _read_ahead(
    flags: Iterable[Flag], argv: Sequence[str]
) -> absl_flags.FlagValues | None:
    """The values of some flags of a command line, whatever else stands there.

    None where absl refuses it; the strict reading that follows says why.
    """
    values = _values(flags)
    values.set_gnu_getopt()  # reads on after the value of a flag that it does not know
    try:
        values(list(argv), known_only=True)
    except absl_flags.Error:
        return None
    return values


def _own_entries(flags: Sequence[Flag], argv: Sequence[str]) -> dict[str, list[Entry]]:
    """Kind -> entries of the user's own that the command line names."""
    choosing = [flag for flag in flags if flag.registry is not None]
    texts = (dataclasses.replace(flag, kind=str, default=None) for flag in choosing)
    if (values := _read_ahead(texts, argv)) is None:
        return {}
    own: dict[str, list[Entry]] = {}
    for flag in choosing:
        assert flag.registry is not None
        several = typing.get_origin(flag.kind) is tuple
        text = values[flag.name].value or ""
        for name in text.split(",") if several else [text]:
            if not name or name in flag.registry.built_in:
                continue
            if flag.registry.matching(name) is None:  # its flags are there already
                own.setdefault(flag.registry.kind, []).append(flag.registry.find(name))
    return own
