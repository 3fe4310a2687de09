"""Whole runs in which every message is preceded by hostile ones.

Whatever receives bytes from another party is found by its signature: public methods of
`encryption.parties` and `encryption.masking` with an argument of bytes, or of several
messages. So a message of a new kind is attacked without a change here.
"""

import contextlib
import importlib
import inspect
import pkgutil
import random
import re
from collections import Counter

import pytest

from fedjax_private.encryption import masking, parties
from fedjax_private.encryption.errors import ProtocolError
from fedjax_private.encryption.messages import channels, wire
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    FIRST_EDGE,
    SERVER,
    TAG_BYTES,
    Kind,
)

# Of a message: see `wire`.
FIELDS = {
    "magic": (0, 4),
    "version": (4, 5),
    "kind": (5, 6),
    "key": (6, 22),
    "round": (22, 30),
    "sender": (30, 38),
    "receiver": (38, 46),
    "count": (46, 50),
    "payload": (50, 58),
}
NUMBERS = (0, 1, 2, 3, 4, 255, 2**31, 2**32 - 1, FIRST_EDGE, AUTHORITY, SERVER, 2**63)
# The files whose classes get messages. What sockets carry reaches these, too.
ROOMS = (
    "authority",
    "client",
    "encryptor",
    "fusion",
    "holders",
    "joint_key",
    "server",
)
POOL = 60  # messages to replay and to splice with
MANY = re.compile(r"[\w.]*(Sequence|Iterable)\[bytes\]")


def receivers():
    """(class, name of method, name of argument) of whatever takes another's bytes."""
    modules = [
        f"{room.__name__}.{module.name}"
        for room in (parties, masking)
        for module in pkgutil.iter_modules(room.__path__)
    ]
    for module in modules:
        if module.split(".")[-1] not in ROOMS:
            continue
        members = vars(importlib.import_module(module)).values()
        for owner in members:
            if not inspect.isclass(owner) or owner.__module__ != module:
                continue
            for name, method in vars(owner).items():
                if name.startswith("_") or not inspect.isfunction(method):
                    continue
                for argument in inspect.signature(method).parameters.values():
                    kind = argument.annotation
                    if kind is bytes or MANY.fullmatch(str(kind)):
                        yield owner, name, argument.name


# On the way: bytes, without any key.


def flipped(rng, data, pool):
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        # Half of them where the fields are.
        place = rng.randrange(min(66, len(data)) if rng.random() < 0.5 else len(data))
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncated(rng, data, pool):
    cut = rng.choice((1, 8, 16, 32, rng.randrange(1, len(data) + 1)))
    return data[:-cut] if rng.random() < 0.5 else data[cut:]


def extended(rng, data, pool):
    more = rng.randbytes(rng.choice((1, 8, 16, 24, 32, 1000)))
    place = rng.choice((0, 58, 66, max(len(data) - TAG_BYTES, 0), len(data)))
    return data[:place] + more + data[place:]


def spliced(rng, data, pool):
    other = rng.choice(pool) if pool else b""
    ends = [end for _, end in FIELDS.values()]
    place = rng.choice((*ends, max(len(data) - TAG_BYTES, 0), rng.randrange(len(data))))
    return data[:place] + other[place:]


def invented(rng, data, pool):
    size = rng.choice((0, 1, 57, 58, 90, 200, len(data), len(data)))
    start = data[: rng.choice((0, 6, 22, 58, 66))]
    return start + rng.randbytes(max(size - len(start), 0))


def renamed(rng, data, pool):
    start, end = FIELDS[rng.choice(tuple(FIELDS))]
    value = rng.choice((rng.randbytes(16), rng.choice(NUMBERS).to_bytes(16, "little")))
    return data[:start] + value[: end - start] + data[end:]


def replayed(rng, data, pool):
    """A message of this run, to whomever, of whatever round and key."""
    return rng.choice(pool) if pool else b""


ON_THE_WAY = (flipped, truncated, extended, spliced, invented, renamed, replayed)


# Under a tag that its receiver can verify.


def fields_of(data):
    """The fields of a message by name, and its numbers and payload."""
    header = {
        name: data[start:end]
        for name, (start, end) in FIELDS.items()
        if name not in ("magic", "version")
    }
    fields = {
        name: value if name == "key" else int.from_bytes(value, "little")
        for name, value in header.items()
    }
    end = 58 + 8 * fields["count"]
    numbers = (data[i : i + 8] for i in range(58, end, 8))
    fields["numbers"] = tuple(int.from_bytes(n, "little") for n in numbers)
    fields["payload"] = data[end:-TAG_BYTES]
    return fields


def written(party, fields, **changes):
    fields = fields | changes
    return wire.write(
        party,
        fields["receiver"],
        fields["kind"],
        fields["round"],
        fields["payload"],
        key_id=fields["key"],
        numbers=fields["numbers"],
    )


class Hostility:
    """Attacks every receiver of messages before it gets the true one.

    Attributes:
        tried: kind of the true message -> hostile messages in its place.
        ways: way of altering -> how often.
        accepted: what was accepted, which must be nothing.
    """

    def __init__(self, each, seed=0, relays=False):
        self.each, self.relays = each, relays
        self.rng = random.Random(seed)
        self.pool, self.parties = [], {}
        self.tried, self.ways, self.accepted = Counter(), Counter(), []
        self._busy = False

    @contextlib.contextmanager
    def everywhere(self):
        """Attacks whatever receives messages while the context lasts."""
        with pytest.MonkeyPatch.context() as patch:
            begin = Party.__init__

            def known(party, number, directory):
                begin(party, number, directory)
                self.parties[number] = party

            patch.setattr(channels.Party, "__init__", known)
            for owner, name, argument in set(receivers()):
                patch.setattr(owner, name, self._attacked(owner, name, argument))
            yield self

    def _attacked(self, owner, name, argument):
        method = vars(owner)[name]
        signature = inspect.signature(method)

        def attacked(role, *arguments, **named):
            if self._busy:
                return method(role, *arguments, **named)
            bound = signature.bind(role, *arguments, **named)
            true, where = bound.arguments[argument], f"{owner.__name__}.{name}"
            together = "Iterable" in str(signature.parameters[argument].annotation)
            messages = [true] if isinstance(true, bytes) else list(true)
            for index, data in enumerate(messages):
                # One of several that may come one by one comes alone.
                rest = messages if together else [data]
                place = index if together else 0
                call = self._calls(bound, argument, method, rest, place)
                self._attack(where, data, call)
            if not isinstance(true, bytes):
                bound.arguments[argument] = messages
            self._busy = True  # so that what it calls in turn is not attacked again
            try:
                result = method(*bound.args, **bound.kwargs)
            finally:
                self._busy = False
            self.pool = [*self.pool, *messages][-POOL:]
            return result

        return attacked

    def _calls(self, bound, argument, method, messages, place):
        """A function that gives the receiver other bytes in place of a message."""
        single = isinstance(bound.arguments[argument], bytes)

        def call(data):
            given = [*messages[:place], data, *messages[place + 1 :]]
            changed = {**bound.arguments, argument: data if single else given}
            return method(**changed)

        return call

    def _attack(self, where, true, call):
        self._busy = True
        try:
            for way, data in self._hostile(true):
                if data == true:
                    continue
                kind = Kind(true[5]).name if true.startswith(wire.MAGIC) else where
                self.tried[kind] += 1
                self.ways[way] += 1
                try:
                    call(data)
                except ProtocolError as error:
                    assert len(str(error)) < 400
                else:
                    self.accepted.append((where, way, kind))
        finally:
            self._busy = False

    def _hostile(self, true):
        for index in range(self.each):
            way = ON_THE_WAY[index % len(ON_THE_WAY)]
            yield way.__name__, way(self.rng, true, self.pool)
        if true.startswith(wire.MAGIC):
            yield from self._tagged(true)

    def _tagged(self, true):
        """The message by parties that know how to make tags."""
        fields = fields_of(true)
        sender = self.parties[fields["sender"]]
        directory = sender._directory
        strangers = []
        for number in (10**6, FIRST_EDGE + 77):
            if number not in self.parties:
                party = Party(number, directory)
                directory[number] = party.identity.public
            strangers.append(self.parties[number])
        relayed = fields["kind"] == Kind.UPLOAD and self.relays
        for stranger in strangers:
            # Any client may declare an upload of its own.
            declared = fields["kind"] == Kind.DECLARATION and stranger.number == 10**6
            if not relayed and not declared:
                yield "another's", written(stranger, fields)
            # In the name of the true sender, with a tag of his own.
            body = true[:-TAG_BYTES]
            tag = stranger.channel_to(fields["receiver"]).tag(body)
            yield "impostor", body + tag
        # By the true sender, with a field that does not belong there.
        for kind in self.rng.sample(sorted(set(Kind) - {fields["kind"]}), 4):
            yield "other kind", written(sender, fields, kind=kind)
        yield "other key", written(sender, fields, key=self.rng.randbytes(16))
        for payload in (b"", fields["payload"][:-1], fields["payload"] + b"\0"):
            yield "other length", written(sender, fields, payload=payload)
        others = [n for n in self.parties if n != fields["receiver"]]
        data = written(sender, fields, receiver=self.rng.choice(others))
        yield "other receiver", data
        start, end = FIELDS["receiver"]
        yield "other receiver", data[:start] + true[start:end] + data[end:]
