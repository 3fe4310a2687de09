"""Fixtures of the tests of attacks."""

from tests.encryption.fixtures import in_new_process, network

__all__ = ["in_new_process", "network"]
