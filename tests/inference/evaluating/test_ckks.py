import numpy as np
import pytest

from fedjax_private.inference.evaluating.ckks import ckks_of
from fedjax_private.inference.planning.polynomials import (
    Number,
    inner_rescalings,
    monic,
    result_bits,
)
from fedjax_private.inference.planning.rings import RingChoice

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("degree", range(2, 10))
def test_monic_polynomials(degree):
    ckks = ckks_of(RingChoice(8192, 30, 30, 7))
    random = np.random.default_rng(degree)
    pair = ckks.context.KeyGen()
    ckks.context.EvalMultKeyGen(pair.secretKey)
    x = random.uniform(-0.9, 0.9, ckks.slots)
    scale = 2.0**34
    ciphertext = ckks.context.Encrypt(pair.secretKey, ckks.encode(x, scale, 7))
    rows = random.uniform(-1, 1, (degree, ckks.slots))
    number = Number(ciphertext, scale, 7)
    for coefficients, expected in (
        (list(rows), sum(row * x**k for k, row in enumerate(rows))),
        ([0.5] * degree, sum(0.5 * x**k for k in range(degree))),
        ([0.0] * degree, 0.0),
    ):
        result = monic(ckks, number, coefficients)
        assert result.limbs == 7 - inner_rescalings(degree)
        assert np.log2(result.scale) == pytest.approx(
            result_bits(degree, 34, 30), abs=0.1
        )
        slots = ckks.decrypted(result, pair.secretKey)
        np.testing.assert_allclose(slots.real, expected + x**degree, atol=1e-3)
