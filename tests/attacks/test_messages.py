"""Hostile messages by the thousand to one server: memory, and a reason for each."""

import gc
import random
import tracemalloc

import numpy as np
import pytest

from fedjax_private.encryption.errors import ProtocolError, RefusedError, WireError
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    FIRST_EDGE,
    SERVER,
    TAG_BYTES,
    Kind,
    write,
)
from fedjax_private.encryption.parameters import Scheme
from tests.attacks.hostility import FIELDS, NUMBERS, ON_THE_WAY
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

# The smaller ring, so that a message is 27 kB.
REQUEST = sum_request(Scheme.EXACT, 1000, 4, quantization_bits=24)
MESSAGES = 10_000
STARTS = (*(start for start, _ in FIELDS.values()), 58)


def altered(index, rng, pool):
    """A message altered on its way; the pool holds what was sent, or will be."""
    way = ON_THE_WAY[index % len(ON_THE_WAY)]
    return way(rng, rng.choice(pool), pool)


# By client 3, who has a channel of its own to the server.


class Malice:
    """Messages of a client's that nobody may accept, with the right tag."""

    def __init__(self, net, number, rng):
        self.net, self.number, self.rng = net, number, rng
        self.party = net.clients[3]
        ring = net.ring
        uniform = np.random.default_rng(0).integers(0, ring.moduli[0], (2, 1, 2048))
        self.polynomials = uniform.astype(np.uint64)
        self.payload = ring.pack(self.polynomials)

    def forge(self, payload=None, **changes):
        number = changes.pop("number", self.number)
        payload = self.payload if payload is None else payload
        return self.net.forge(self.party, number, payload, **changes)

    def payload_for(self, numbers):
        """As long as it must be for so many clients."""
        half = self.payload[len(self.payload) // 2 :]
        return half * (1 + len(numbers))

    def beyond_the_modulus(self):
        rng, q = self.rng, self.net.ring.moduli[0]
        polynomials = self.polynomials.copy()
        for _ in range(rng.choice((1, 1, 100))):
            place = rng.randrange(2), 0, rng.randrange(2048)
            polynomials[place] = rng.choice(
                (q, q + 1, rng.randrange(q, 2**53), 2**53 - 1)
            )
        return self.forge(self.net.ring.pack(polynomials))

    def all_bits(self):
        return self.forge(b"\xff" * len(self.payload))

    def another_length(self):
        size = len(self.payload)
        wrong = self.rng.choice(
            (0, 1, size - 1, size + 1, size // 2, 2 * size, size + 8)
        )
        return self.forge((2 * self.payload)[:wrong])

    def another_number_of_numbers(self):
        numbers = [3, 10, 11, 12, 13, 14][: self.rng.choice((0, 2, 3, 4, 5, 6))]
        return self.forge(self.payload_for(numbers), numbers=numbers)

    def another_key(self):
        return self.forge(key_id=self.rng.choice((bytes(16), self.rng.randbytes(16))))

    def another_kind(self):
        return self.forge(kind=self.rng.choice([k for k in Kind if k != Kind.UPLOAD]))

    def another_round(self):
        wrong = (0, self.number + 1, self.number - 1, self.rng.randrange(10, 2**64))
        return self.forge(number=self.rng.choice(wrong))

    def another_client(self):
        return self.forge(numbers=(self.rng.choice((0, 1, 2, 4, 2**32)),))

    def repeated(self):
        numbers = self.rng.choice(((3, 3), (3, 1, 3), (3, 3, 3, 3), (1, 1)))
        return self.forge(self.payload_for(numbers), numbers=numbers)

    def no_client(self):
        beyond = self.rng.randrange(FIRST_EDGE, 2**64)
        numbers = self.rng.choice(((beyond,), (3, beyond)))
        return self.forge(self.payload_for(numbers), numbers=numbers)

    def another_receiver(self):
        data = self.forge(receiver=AUTHORITY)
        start = STARTS[6]
        if self.rng.random() < 0.5:  # renamed, but tagged for the other
            data = data[:start] + SERVER.to_bytes(8, "little") + data[start + 8 :]
        return data

    def lies_in_the_header(self):
        # Any field but the round, and the tag that a client can make of it.
        data = self.forge()
        field = self.rng.choice((0, 1, 2, 3, 5, 6, 7, 8))
        start, end = STARTS[field], STARTS[field + 1]
        value = self.rng.choice(NUMBERS).to_bytes(16, "little")[: end - start]
        if value == data[start:end]:
            value = bytes(b ^ 0xFF for b in value)
        body = data[:start] + value + data[end:-TAG_BYTES]
        return body + self.party.channel_to(SERVER).tag(body)

    def everything(self):
        return (
            self.beyond_the_modulus,
            self.all_bits,
            self.another_length,
            self.another_number_of_numbers,
            self.another_key,
            self.another_kind,
            self.another_round,
            self.another_client,
            self.repeated,
            self.no_client,
            self.another_receiver,
            self.lies_in_the_header,
        )


@pytest.fixture(scope="module")
def net(network):
    return network(REQUEST, least=2)


def seen_messages(net):
    """Messages of an earlier round and of this one, some of them to others."""
    old = net.open()
    vectors = net.vectors()
    pool = [net.upload(client, old, vectors[client]) for client in range(4)]
    for message in pool:
        net.server.add(message)
    total = net.server.sum_message()
    pool += [total, net.authority.decrypt(total), net.material.to_bytes()]
    number = net.open()
    uploads = [net.upload(client, number, vectors[client]) for client in range(3)]
    net.server.add(uploads[0])
    pool += uploads
    pool.append(net.upload(2, number, vectors[2], receiver=AUTHORITY))
    # What client 0 might repeat.
    pool.append(net.upload(0, number, vectors[1]))
    return number, pool, uploads, vectors


def test_ten_thousand_hostile_messages_change_nothing(net):
    number, pool, uploads, vectors = seen_messages(net)
    rng = random.Random(0)
    malice = Malice(net, number, rng).everything()
    accepted = set(uploads[1:])  # as they are, the server would take them
    refusals = {WireError: 0, RefusedError: 0}
    tracemalloc.start()
    try:
        for index in range(MESSAGES):
            if index == MESSAGES // 10:
                gc.collect()
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
            if index % 2:
                message = malice[index // 2 % len(malice)]()
            else:
                message = altered(index // 2, rng, pool)
            if message in accepted:
                continue
            with pytest.raises(ProtocolError) as caught:
                net.server.add(message)
            refusals[type(caught.value)] += 1
            assert len(str(caught.value)) < 300
            del message, caught
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusals[WireError] > MESSAGES / 2
    assert refusals[RefusedError] > MESSAGES / 10
    assert sum(refusals.values()) > 0.97 * MESSAGES
    # Nothing stays, and no message takes more than a few times its own size.
    assert after - before < 20_000
    assert peak - before < 1_000_000
    # Nothing has changed.
    assert net.server.clients == (0,)
    uploads.append(net.upload(3, number, vectors[3]))
    for upload in uploads[1:]:
        net.server.add(upload)
    total = net.server.take_total()
    residues = sum(net.residues(upload) for upload in uploads)
    found = np.concatenate([total.firsts, total.parts.total])
    np.testing.assert_array_equal(found, net.ring.reduce(residues))


def test_every_kind_of_malice_is_refused_for_its_own_reason(net):
    # So that not one check alone refuses everything.
    number = net.open()
    malice = Malice(net, number, random.Random(1))
    expected = {
        "beyond_the_modulus": "not below the modulus",
        "all_bits": "not below the modulus",
        "another_length": "bytes where|another number",
        "another_number_of_numbers": "bytes where|in the name of",
        "another_key": "another key",
        "another_kind": "another kind",
        "another_round": "but .* is open",
        "another_client": "in the name of",
        "repeated": "names a client twice",
        "no_client": "in the name of",
        "another_receiver": "another receiver|tag is wrong",
        "lies_in_the_header": "another|did not send|no party with number",
    }
    assert {act.__name__ for act in malice.everything()} == set(expected)
    for act in malice.everything():
        for _ in range(20):
            with pytest.raises(ProtocolError, match=expected[act.__name__]):
                net.server.add(act())
    # And what is no malice is not.
    net.server.add(malice.forge())
    assert net.server.clients == (3,)


def test_hostile_sums_and_releases_are_refused(net):
    number = net.open()
    vectors = net.vectors()
    net.add(number, vectors)
    total = net.server.sum_message()
    other = net.open()
    # Uploads that are not declared: a declaration of one would end that of this round.
    pool = [total]
    for receiver in (SERVER, AUTHORITY):
        (ciphertexts,) = net.encryptor.ciphertexts([0], vectors[:1])
        fields = {"key_id": net.material.key_id, "numbers": (0,)}
        pool.append(
            write(net.clients[0], receiver, Kind.UPLOAD, other, ciphertexts, **fields)
        )
    rng = random.Random(2)
    for index in range(1000):
        message = altered(index, rng, pool)
        if message != total:
            with pytest.raises(ProtocolError):
                net.authority.decrypt(message)
    release = net.authority.decrypt(total)
    pool = [release, total, net.material.to_bytes()]
    for index in range(1000):
        message = altered(index, rng, pool)
        if message != release:
            with pytest.raises(ProtocolError):
                net.server.read_release(message)
    net.assert_sum(net.server.read_release(release), vectors)
