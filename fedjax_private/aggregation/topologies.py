"""How uploads travel to be added up: star, tree or ring. The sums are bit-identical."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import EDGE_SERVERS, EDGES, SERVER
from fedjax_private.encryption.parties.server import AggregationServer

# (client, receiver of its upload) -> the upload. Called once for each client.
Encrypt = Callable[[Party, int], bytes]


class Parties:
    """Everybody in a simulation; each knows all others' public keys."""

    def __init__(self) -> None:
        self._directory: dict[int, bytes] = {}
        self._parties: dict[int, Party] = {}

    def __call__(self, number: int) -> Party:
        """The party of that number, enrolled when first asked for."""
        if number not in self._parties:
            party = Party(number, self._directory)
            self._directory[number] = party.identity.public
            self._parties[number] = party
        return self._parties[number]


class Traffic:
    """What went over each kind of link in a round, and how long adding took."""

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
        """Counts the seconds inside as addition."""
        start = time.perf_counter()
        yield
        self.seconds_add += time.perf_counter() - start

    def per_message(self) -> dict[str, int]:
        """Mean bytes of a message, for each kind of link."""
        return {
            link: round(n / self._messages[link]) for link, n in self._bytes.items()
        }


@dataclasses.dataclass(frozen=True)
class Network:
    """Who takes part in one round.

    Attributes:
        server: with its round open.
        parties: all others.
        traffic: where messages are counted.
        fan_out: clients of one edge server.
    """

    server: AggregationServer
    parties: Parties
    traffic: Traffic
    fan_out: int


class Route(Protocol):
    """One round's way of uploads to the server."""

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """One client's turn."""

    def arrive(self) -> None:
        """Ends the round: the server has the sum of all when this returns."""


class Star:
    """Every client sends to the server, which sees each one's ciphertext."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """See `Route`."""
        traffic = self._network.traffic
        upload = traffic.sent("client to server", encrypt(client, SERVER))
        with traffic.adding():
            self._network.server.add(upload)

    def arrive(self) -> None:
        """See `Route`."""


class Tree:
    """Edge servers add the uploads of some clients each, and the server their sums."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._edge: AggregationServer | None = None
        self._edges = 0

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """See `Route`."""
        traffic, edge = self._network.traffic, self._edge
        if edge is None or len(edge.clients) == self._network.fan_out:
            self.arrive()
            party = self._network.parties(EDGES + self._edges)
            edge = self._edge = _relay(self._network.server, party)
            self._edges += 1
        number = EDGES + self._edges - 1
        upload = traffic.sent("client to edge", encrypt(client, number))
        with traffic.adding():
            edge.add(upload)

    def arrive(self) -> None:
        """See `Route`."""
        traffic = self._network.traffic
        if self._edge is not None:
            with traffic.adding():
                message = traffic.sent("edge to server", self._edge.forward(SERVER))
                self._network.server.add(message)
            self._edge = None


class Ring:
    """Each client adds its own to the sum that it got, and passes it on.

    Nobody but its neighbour sees a client's ciphertext, and that inside a sum; the last
    one sends it to the server. The transfers follow one another.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._last: AggregationServer | None = None

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """See `Route`."""
        traffic, own = self._network.traffic, encrypt(client, client.number)
        relay = _relay(self._network.server, client, ANYBODY)
        with traffic.adding():
            if self._last is not None:
                message = self._last.forward(client.number)
                relay.add(traffic.sent("client to client", message))
            relay.add(own)
        self._last = relay

    def arrive(self) -> None:
        """See `Route`."""
        traffic = self._network.traffic
        if self._last is not None:
            with traffic.adding():
                message = traffic.sent("client to server", self._last.forward(SERVER))
                self._network.server.add(message)
            self._last = None


class _Anybody:
    def __contains__(self, number: object) -> bool:
        return True


# Who may send the sum of several clients: edge servers in a tree, clients in a ring.
ANYBODY = _Anybody()

TOPOLOGIES: Mapping[str, Callable[[Network], Route]] = MappingProxyType(
    {"star": Star, "tree": Tree, "ring": Ring}
)


def server_for(topology: str, party: Party, material: Material) -> AggregationServer:
    """The server of a topology: it takes sums from whom the topology lets send them."""
    relays = {"star": (), "tree": EDGE_SERVERS, "ring": ANYBODY}[topology]
    return AggregationServer(party, material, relays=relays)


def _relay(
    server: AggregationServer, party: Party, relays: "range | _Anybody" = EDGE_SERVERS
) -> AggregationServer:
    """Somebody who adds on the way, in the round that the server has open."""
    relay = AggregationServer(party, server.material, relays=relays)
    assert server.round_number is not None
    relay.open(server.round_number)
    return relay
