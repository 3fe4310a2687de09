import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.inference.compiling.compiler import compile_model
from fedjax_private.inference.compiling.primitives import (
    PRIMITIVES,
    Primitive,
    UnsupportedLayerError,
)

pytestmark = pytest.mark.usefixtures("full_precision")

# Coefficients of 1 - 2 x + x^2 and of 3 + x, at two entries.
LEFT = tuple(jnp.array([c, c + 0.5]) for c in (1.0, -2.0, 1.0))
RIGHT = tuple(jnp.array([c, c - 1.0]) for c in (3.0, 1.0))


def evaluated(coefficients, x=0.3):
    return np.asarray(sum(c * x**k for k, c in enumerate(coefficients)))


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (jax.lax.add, np.add),
        (jax.lax.sub, np.subtract),
        (jax.lax.mul, np.multiply),
    ],
)
def test_polynomials_of_one_tensor_are_combined_exactly(function, operation):
    eqn = jax.make_jaxpr(function)(1.0, 2.0).eqns[0]
    result = PRIMITIVES[eqn.primitive.name].polynomial(eqn, (LEFT, RIGHT))
    expected = operation(evaluated(LEFT), evaluated(RIGHT))
    np.testing.assert_allclose(evaluated(result), expected, rtol=1e-5)


@pytest.mark.parametrize("power", [1, 2, 3, 5])
def test_powers_multiply_out(power):
    eqn = jax.make_jaxpr(lambda x: jax.lax.integer_pow(x, power))(1.0).eqns[0]
    result = PRIMITIVES["integer_pow"].polynomial(eqn, (LEFT,))
    assert len(result) == 2 * power + 1
    np.testing.assert_allclose(evaluated(result), evaluated(LEFT) ** power, rtol=1e-5)


def test_quotients_by_a_polynomial_and_negative_powers_are_none():
    division = jax.make_jaxpr(jax.lax.div)(1.0, 2.0).eqns[0]
    assert PRIMITIVES["div"].polynomial(division, (LEFT, RIGHT)) is None
    inverse = jax.make_jaxpr(lambda x: jax.lax.integer_pow(x, -1))(1.0).eqns[0]
    assert PRIMITIVES["integer_pow"].polynomial(inverse, (LEFT,)) is None


def compiled(function):
    sample = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype(np.float32)
    circuit = compile_model(lambda _, x: function(x), {}, (4,), sample=sample)
    return circuit.plain(sample), np.asarray(function(sample))


def test_an_entry_in_the_table_is_all_that_a_primitive_needs(monkeypatch):
    with pytest.raises(UnsupportedLayerError, match="the operation cumprod"):
        compiled(lambda x: jax.lax.cumprod(x, axis=1))
    with pytest.raises(UnsupportedLayerError, match="the operation sort"):
        compiled(lambda x: jnp.sort(x, axis=1))
    monkeypatch.delitem(PRIMITIVES, "neg")
    with pytest.raises(UnsupportedLayerError, match="the operation neg"):
        compiled(lambda x: -x)
    entry = Primitive(polynomial=lambda _, terms: tuple(-c for c in terms[0]))
    monkeypatch.setitem(PRIMITIVES, "neg", entry)
    found, expected = compiled(lambda x: -x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    monkeypatch.setitem(PRIMITIVES, "neg", Primitive(affine=lambda varying: True))
    found, expected = compiled(lambda x: -x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
