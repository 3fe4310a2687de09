"""Rounds of masked sums, message by message, for tests."""

import numpy as np

from fedjax_private.encryption.masking.client import MaskingClient
from fedjax_private.encryption.masking.rosters import MaskedSum
from fedjax_private.encryption.masking.server import MaskingServer
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import SERVER

STAGES = ("share", "upload", "consent", "open")


class Parties:
    """Parties that know one another, made on first use."""

    def __init__(self):
        self.directory, self.all = {}, {}

    def __call__(self, number):
        if number not in self.all:
            self.all[number] = Party(number, self.directory)
            self.directory[number] = self.all[number].identity.public
        return self.all[number]


class Group:
    """A server and its clients."""

    def __init__(self, facts, numbers, parties=None):
        self.facts, self.parties = facts, parties or Parties()
        self.numbers = tuple(numbers)
        self.server = MaskingServer(self.parties(SERVER), facts)
        self.clients = {n: MaskingClient(self.parties(n), facts) for n in self.numbers}

    def run(self, vectors, round_number=0, leaving=None, until=None):
        """Runs a round; returns its clients and their sum.

        Args:
            vectors: number -> vector.
            round_number: of the round.
            leaving: number -> the stage from which on that client is silent.
            until: a stage; returns the messages that the server sends before it.
        """
        gone = set()
        result = self.server.invite(round_number, self.numbers)
        steps = {
            "share": ("shares", self.server.add_shares, self.server.boxes),
            "upload": ("masked", self.server.add_masked, self.server.survivors),
            "consent": ("consent", self.server.add_consent, self.server.consents),
            "open": ("open_masks", self.server.add_opening, self.server.release),
        }
        for stage in STAGES:
            gone |= {n for n, at in (leaving or {}).items() if at == stage}
            if stage == "consent" and not self.facts.malicious:
                continue
            if stage == until:
                return result
            answer, add, end = steps[stage]
            for number, message in result.items():
                if number not in gone:
                    extra = (vectors[number],) if stage == "upload" else ()
                    add(getattr(self.clients[number], answer)(message, *extra))
            result = end()
        return result


def sum_facts(uploads, **changes):
    """The facts of a small sum."""
    usual = {"values": 20, "bits": 16, "uploads": uploads, "most_clients": 1000}
    return MaskedSum(**usual | changes)


def vectors(facts, numbers, seed=0):
    """Signed vectors whose sums may wrap mod 2^M."""
    random = np.random.default_rng(seed)
    most = 1 << facts.bits - 2
    return {n: random.integers(-most, most, facts.values, np.int64) for n in numbers}


def expected(facts, given, numbers):
    """The sum of some clients' vectors mod 2^M, signed, by Python's integers."""
    half, modulus = 1 << facts.bits - 1, 1 << facts.bits
    columns = zip(*(given[n].tolist() for n in numbers), strict=True)
    return [(sum(column) + half) % modulus - half for column in columns]
