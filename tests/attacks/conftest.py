"""Fixtures of the tests of attacks."""

from tests.aggregation.process_sums import numbers, running
from tests.encryption.federation import federation, keyless
from tests.encryption.fixtures import (
    exact,
    in_new_process,
    net,
    network,
    reals,
    small,
)

__all__ = [
    "exact",
    "federation",
    "in_new_process",
    "keyless",
    "net",
    "network",
    "numbers",
    "reals",
    "running",
    "small",
]
