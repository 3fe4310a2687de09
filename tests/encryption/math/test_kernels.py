"""Where kernels run, and that the caller's settings of JAX stay as they were."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.math.rings import Ring


def test_the_callers_precision_and_device_stay_as_they_were():
    before = jax.config.jax_enable_x64, jnp.arange(3).dtype
    ring = Ring(8, (17,))
    polynomials.evaluate(np.ones((1, 1, 8), np.uint64), ring)
    assert (jax.config.jax_enable_x64, jnp.arange(3).dtype) == before


def test_it_computes_on_the_host_whatever_the_caller_computes_on(in_new_process):
    placed = in_new_process(
        """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
from fedjax_private.encryption.math import kernels, polynomials
from fedjax_private.encryption.math.rings import Ring
placed = []
def recording(kernel):
    def call(*arguments):
        result = kernel(*arguments)
        placed.append(sorted(device.id for device in result.devices()))
        return result
    return call
for name in ("multiply", "evaluate", "interpolate"):
    setattr(kernels, name, recording(getattr(kernels, name)))
ring, rows = Ring(8, (97,)), np.arange(64, dtype=np.uint64).reshape(8, 1, 8)
factor = polynomials.Factor.of(rows[1], ring)
mesh = jax.sharding.Mesh(np.array(jax.devices()), "x")
use = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh
with jax.default_device(jax.devices()[1]):
    values = polynomials.evaluate(rows, ring)
    polynomials.interpolate(polynomials.multiply(values, factor, ring), ring)
    try:
        with use(mesh):
            polynomials.multiply(values, factor, ring)
    except ValueError:  # a mesh of other devices: said, and nothing computed there
        pass
result = placed
"""
    )
    assert len(placed) in (3, 4)
    assert all(devices == [0] for devices in placed)


def test_without_the_host_nothing_is_computed(in_new_process):
    sentence = in_new_process(
        """
import jax, numpy as np
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.errors import OpenFHEUnavailable
def none(backend):
    raise RuntimeError("no such backend")
jax.local_devices = none
try:
    polynomials.remainder(np.zeros((1, 8), np.uint64), 17)
except OpenFHEUnavailable as error:
    result = str(error)
"""
    )
    assert "JAX_PLATFORMS=cuda,cpu" in sentence
