"""Fixtures of the tests of aggregation."""

from tests.aggregation.process_sums import numbers, running

__all__ = ["numbers", "running"]
