"""Norms and weighted sums of arrays with one row an example."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.privacy.gradients.types import scaled_norms, weighted_sum


def test_a_weighted_sum_leaves_examples_of_factor_zero_out():
    gradients = jnp.array([[2.0, 4.0], [6.0, -2.0], [jnp.nan, jnp.inf]])
    factors = jnp.array([1.0, 0.5, 0.0])
    np.testing.assert_allclose(weighted_sum(factors, gradients), [5.0, 3.0])


def test_norms_of_a_batch_that_mixes_all_sizes():
    """One that is out of the ordinary, or no number at all, leaves the others right."""
    directions = np.array([[3.0, -4.0, 12.0]]) / 13
    sizes = np.array([0.0, 1e-37, 1e-20, 1e-16, 0.5, 1.0, 1e14, 1e20, 3e37])
    vectors = jnp.asarray(sizes[:, None] * directions, jnp.float32)
    right = np.linalg.norm(np.asarray(vectors, np.float64), axis=1)
    ordinary = slice(4, 7)
    norms = jax.jit(scaled_norms)
    for chosen in (slice(None), ordinary, slice(0, 1), slice(8, 9)):
        # A zero stays one; all else is right to a few units in the last place.
        np.testing.assert_allclose(norms(vectors[chosen]), right[chosen], rtol=5e-7)
    # All but itself, in one batch and under vmap, where both ways are taken.
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        broken = jnp.concatenate([vectors, vectors[:1].at[0, 1].set(bad)])
        for found in (norms(broken), jax.vmap(norms)(broken[None])[0]):
            np.testing.assert_allclose(found[:-1], right, rtol=5e-7)
            assert not np.isfinite(found[-1])
