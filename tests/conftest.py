"""Shared fixtures, and what is skipped where."""

from collections.abc import Iterator

import jax
import pytest

from fedjax_private.encryption.openfhe import backend
from fedjax_private.runs import environment

# Before any test touches JAX: devices per core, compiled code kept between runs.
environment.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needing = [item for item in items if item.get_closest_marker("needs_openfhe")]
    if not needing:
        return
    try:
        backend.load()
    except backend.OpenFHEUnavailable as error:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Matrix products in all of float32's bits on accelerators too, as on CPUs."""
    with jax.default_matmul_precision("highest"):
        yield
