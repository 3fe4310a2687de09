"""How uploads travel to the server: star, tree or ring.

The order of additions does not change an encrypted sum. Two releases of equal sums are
equal under exact schemes, and differ by the decryption's noise under CKKS.

Whoever relays uploads forwards the sum of their first polynomials. The second ones go
on one by one if decryptors check them (see `encryption.parties.declarations`), so that
a sum of other uploads than it names stays masked. Without that check, relays are taken
at their word: one that names clients whose uploads it left out gets a smaller sum
decrypted than `trust.uploads` allows.
"""

import abc
from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import ClassVar

from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import EDGE_SERVERS, FIRST_EDGE, SERVER
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.parties.traffic import Traffic

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


class Route(abc.ABC):
    """The way of one round's uploads to the server.

    Args:
        server: with its round open.
        parties: all others.
        traffic: counts messages.
        fan_out: clients of one edge server, in a tree.
        verified: whether relays forward the second polynomials of every upload, for
            decryptors that check them. If not, relays are believed.
        facts: returns the facts about the key for a relay, for whom its makers vouch.

    Attributes:
        relays: who may send the server the sum of several clients' uploads.
        last_link: the link over which the server gets what it adds.
    """

    relays: ClassVar[Container[int]] = ()
    last_link: ClassVar = "client to server"

    def __init__(
        self,
        server: AggregationServer,
        parties: Parties,
        traffic: Traffic,
        fan_out: int,
        verified: bool,
        facts: Callable[[Party], Material],
    ) -> None:
        self._server, self._parties, self._facts = server, parties, facts
        self._traffic, self._fan_out = traffic, fan_out
        self._verified = verified
        self._relay: AggregationServer | None = None  # holds a sum on its way

    @abc.abstractmethod
    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Encrypts one client's upload and sends it on its way."""

    def arrive(self) -> None:
        """Ends the round: the server has the sum of all when this returns."""
        if self._relay is not None:
            with self._traffic.adding():
                message = self._relay.forward(SERVER)
                self._server.add(self._traffic.sent(self.last_link, message))
            self._relay = None

    def _new_relay(self, party: Party) -> AggregationServer:
        """Returns a party's adder on the way, in the round that the server has open."""
        facts = self._facts(party)
        relay = AggregationServer(party, facts, self.relays, self._verified)
        assert self._server.round_number is not None
        relay.open(self._server.round_number)
        return relay


class Star(Route):
    """Every client sends to the server, which sees each one's ciphertext."""

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Sends one upload to the server."""
        upload = self._traffic.sent(self.last_link, encrypt(client, SERVER))
        with self._traffic.adding():
            self._server.add(upload)


class Tree(Route):
    """Edge servers add the uploads of some clients each, and the server their sums."""

    relays, last_link = EDGE_SERVERS, "edge to server"
    _edges = 0

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Sends one upload to the current edge server, or a new one if that is full."""
        edge = self._relay
        if edge is None or len(edge.clients) == self._fan_out:
            self.arrive()
            party = self._parties(FIRST_EDGE + self._edges)
            edge = self._relay = self._new_relay(party)
            self._edges += 1
        receiver = FIRST_EDGE + self._edges - 1
        upload = self._traffic.sent("client to edge", encrypt(client, receiver))
        with self._traffic.adding():
            edge.add(upload)


class Ring(Route):
    """Each client adds its upload to the sum that it received, and passes it on.

    Only its neighbour sees a client's ciphertext, and its c0 only inside a sum, which
    is the first client's own c0 at first. The last client sends the sum to the server.
    The transfers follow one another, and grow with every client if decryptors check
    uploads.
    """

    relays = range(FIRST_EDGE)  # every client

    def send(self, client: Party, encrypt: Encrypt) -> None:
        """Passes the sum on to a client, which adds its upload."""
        upload, relay = encrypt(client, client.number), self._new_relay(client)
        with self._traffic.adding():
            if self._relay is not None:
                message = self._relay.forward(client.number)
                relay.add(self._traffic.sent("client to client", message))
            relay.add(upload)
        self._relay = relay


# Name -> how uploads travel to the server: star, tree or ring.
TOPOLOGIES: Mapping[str, type[Route]] = MappingProxyType(
    {"star": Star, "tree": Tree, "ring": Ring}
)
