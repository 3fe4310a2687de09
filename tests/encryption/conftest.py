"""Fixtures of the encryption tests."""

from tests.encryption.fixtures import in_new_process, network

__all__ = ["in_new_process", "network"]
