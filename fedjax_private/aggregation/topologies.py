"""How uploads travel to the server: star, tree or ring. The sums are bit-identical."""

import abc
import contextlib
import dataclasses
import time
from collections.abc import Callable, Container, Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar

from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import EDGE_SERVERS, FIRST_EDGE, SERVER
from fedjax_private.encryption.parties.server import AggregationServer

# (client, receiver of its upload) -> the upload. Called once for each client.
Encrypt = Callable[[Party, int], bytes]


class Parties:
    """All parties of a simulation; each knows the public keys of all others."""

    def __init__(self) -> None:
        self._directory: dict[int, bytes] = {}
        self._parties: dict[int, Party] = {}

    def __call__(self, number: int) -> Party:
        """Returns the party of that number, enrolled on first use."""
        if number not in self._parties:
            party = Party(number, self._directory)
            self._directory[number] = party.identity.public
            self._parties[number] = party
        return self._parties[number]


class Traffic:
    """The bytes over each kind of link in a round, and the seconds of adding."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._messages: dict[str, int] = {}
        self.seconds_add = 0.0

    def sent(self, link: str, message: bytes) -> bytes:
        """Counts a message and returns it."""
        self._bytes[link] = self._bytes.get(link, 0) + len(message)
        self._messages[link] = self._messages.get(link, 0) + 1
        return message

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """Counts the seconds inside the context as addition."""
        start = time.perf_counter()
        yield
        self.seconds_add += time.perf_counter() - start

    def per_message(self) -> dict[str, int]:
        """Returns the mean bytes of a message, for each kind of link."""
        return {
            link: round(n / self._messages[link]) for link, n in self._bytes.items()
        }


@dataclasses.dataclass(frozen=True)
class Network:
    """The parties of one round, and the count of their messages.

    Attributes:
        server: with its round open.
        parties: all others.
        traffic: counts messages.
        fan_out: clients of one edge server.
    """

    server: AggregationServer
    parties: Parties
    traffic: Traffic
    fan_out: int


class Route(abc.ABC):
    """The way of one round's uploads to the server.

    Attributes:
        relays: who may send the server the sum of several clients' uploads.
    """

    relays: ClassVar[Container[int]] = ()

    def __init__(self, network: Network) -> None:
        self._network, self._traffic = network, network.traffic

    @abc.abstractmethod
    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Encrypts one client's upload and sends it on its way."""

    @abc.abstractmethod
    def arrive(self) -> None:
        """Ends the round: the server has the sum of all when this returns."""

    def _relay(self, party: Party) -> AggregationServer:
        """Returns a party's adder on the way, in the round that the server has open."""
        server = self._network.server
        relay = AggregationServer(party, server.material, self.relays)
        assert server.round_number is not None
        relay.open(server.round_number)
        return relay


class Star(Route):
    """Every client sends to the server, which sees each one's ciphertext."""

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Sends one upload to the server."""
        upload = self._traffic.sent("client to server", encrypt(client, SERVER))
        with self._traffic.adding():
            self._network.server.add(upload)

    def arrive(self) -> None:
        """Does nothing: every upload has been added on arrival."""


class Tree(Route):
    """Edge servers add the uploads of some clients each, and the server their sums."""

    relays = EDGE_SERVERS

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._edge: AggregationServer | None = None
        self._edges = 0

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Sends one upload to the current edge server, or a new one if that is full."""
        edge = self._edge
        if edge is None or len(edge.clients) == self._network.fan_out:
            self.arrive()
            number = FIRST_EDGE + self._edges
            edge = self._edge = self._relay(self._network.parties(number))
            self._edges += 1
        receiver = FIRST_EDGE + self._edges - 1
        upload = self._traffic.sent("client to edge", encrypt(client, receiver))
        with self._traffic.adding():
            edge.add(upload)

    def arrive(self) -> None:
        """Sends the sum of the current edge server."""
        if self._edge is not None:
            with self._traffic.adding():
                message = self._edge.forward(SERVER)
                self._network.server.add(self._traffic.sent("edge to server", message))
            self._edge = None


class _Anybody:
    def __contains__(self, number: object) -> bool:
        return True


class Ring(Route):
    """Each client adds its upload to the sum that it received, and passes it on.

    Only its neighbour sees a client's ciphertext, and only inside a sum; the last
    client sends the sum to the server. The transfers follow one another.
    """

    relays = _Anybody()

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._last: AggregationServer | None = None

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Passes the sum on to a client, which adds its upload."""
        upload, relay = encrypt(client, client.number), self._relay(client)
        with self._traffic.adding():
            if self._last is not None:
                message = self._last.forward(client.number)
                relay.add(self._traffic.sent("client to client", message))
            relay.add(upload)
        self._last = relay

    def arrive(self) -> None:
        """Sends the last client's sum."""
        if self._last is not None:
            with self._traffic.adding():
                message = self._last.forward(SERVER)
                self._network.server.add(
                    self._traffic.sent("client to server", message)
                )
            self._last = None


TOPOLOGIES: Mapping[str, type[Route]] = MappingProxyType(
    {"star": Star, "tree": Tree, "ring": Ring}
)
