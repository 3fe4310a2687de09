"""Events as JSON and back, by the names of their types."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fedjax_private.privacy.accounting.events import (
    Approximate,
    Composed,
    Event,
    Repeated,
    check_event,
)

_TYPES: dict[str, type[Event]] = {}
_EventType = TypeVar("_EventType", bound=type[Event])


def register_type(event_type: _EventType) -> _EventType:
    """Makes `from_json` find a type of event by its class name; returns the type.

    Raises:
        TypeError: the class is not a frozen, hashable dataclass derived from `Event`.
        ValueError: another class goes by the same name.
    """
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise TypeError(f"{event_type!r} does not derive from Event.")
    parameters = getattr(event_type, "__dataclass_params__", None)
    inherited = "__dataclass_params__" not in vars(event_type)
    if inherited or not (parameters and parameters.frozen and parameters.eq):
        raise TypeError(
            f"{event_type.__name__} must be a dataclass with frozen=True: the "
            "accountant counts runs by event."
        )
    known = _TYPES.get(event_type.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (
        event_type.__module__,
        event_type.__qualname__,
    ):
        raise ValueError(
            f"an event named {event_type.__name__} is already registered, by "
            f"{known.__module__}; give yours another name."
        )
    _TYPES[event_type.__name__] = event_type
    return event_type


# `register` enters all other events with their prices.
for _event_type in (Composed, Repeated, Approximate):
    register_type(_event_type)


def to_dict(event: Event) -> dict[str, Any]:
    """Returns the event as dictionaries, lists and numbers; `type` holds its name."""
    check_event(event)
    fields = (f for f in dataclasses.fields(event) if f.init)
    return {
        "type": type(event).__name__,
        **{field.name: _plain(getattr(event, field.name)) for field in fields},
    }


def from_dict(values: Mapping[str, Any]) -> Event:
    """Returns the event that `to_dict` described.

    Raises:
        ValueError: the type is unknown, or its fields do not fit it.
    """
    if not isinstance(values, Mapping) or "type" not in values:
        raise ValueError(f"not the description of an event: {values!r}.")
    event_type = _TYPES.get(values["type"])
    if event_type is None:
        raise ValueError(
            f"no event named {values['type']!r} is registered; import the module that "
            "registers it first."
        )
    fields = {key: _parsed(value) for key, value in values.items() if key != "type"}
    try:
        return event_type(**fields)
    except TypeError as error:
        raise ValueError(f"{values['type']}: {error}.") from error


def to_json(event: Event) -> str:
    """Returns the event as one line of JSON, the same for equal events."""
    return json.dumps(to_dict(event), separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Event:
    """Returns the event that `to_json` wrote; raises ValueError for other texts."""
    return from_dict(json.loads(text))


def _plain(value: Any) -> Any:
    if isinstance(value, Event):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{value!r} does not go to JSON; an event's fields hold numbers, strings, "
        "events, and tuples of these."
    )


def _parsed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, list):
        return tuple(_parsed(item) for item in value)
    return value
