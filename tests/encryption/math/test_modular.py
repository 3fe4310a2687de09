"""Products modulo a word-sized number, in NumPy; `test_polynomials` has XLA's."""

import numpy as np
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.math.modular import lazy_product, quotients

words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**64 - 1])


@given(words, st.integers(2, 2**62 - 1), st.integers(0, 2**62))
@settings(deadline=None, max_examples=300)
def test_products_modulo_any_number_are_exact(value, modulus, factor):
    factor %= modulus
    values, factors = np.array([value], np.uint64), np.array([factor], np.uint64)
    lazy = lazy_product(
        values, factors, quotients([factor], modulus), np.uint64(modulus)
    )
    assert int(lazy[0]) % modulus == value * factor % modulus
    assert int(lazy[0]) < 4 * modulus
