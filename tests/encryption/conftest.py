"""Fixtures of the tests of encryption."""

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
    "reals",
    "small",
]
