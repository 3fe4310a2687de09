"""Fixtures of the tests of aggregation."""

from tests.aggregation.process_sums import inspected, numbers, running

__all__ = ["inspected", "numbers", "running"]
