"""Functions read equation by equation: run, rewritten, analysed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.programs import (
    called,
    depends_on,
    evaluate,
    evaluate_equations,
    flat_program,
    largest_value,
    rewritten,
)

X = jnp.array([0.5, -1.0, 2.0])


@jax.jit
def inner(x):
    return jnp.sin(x) * 2.0


@jax.custom_jvp
def doubled(x):
    return 2.0 * x


doubled.defjvp(lambda primals, tangents: (doubled(*primals), 5.0 * tangents[0]))


def outer(x):
    return jnp.cos(inner(x)) + inner(x + 1.0)


def names(program):
    return [eqn.primitive.name for eqn in program.jaxpr.eqns]


def cosine_for_sine(eqn, inputs):
    return [jnp.cos(inputs[0])] if eqn.primitive.name == "sin" else None


def test_a_program_without_a_rule_is_the_function():
    program = jax.make_jaxpr(outer)(X)
    np.testing.assert_array_equal(evaluate(program, [X])[0], outer(X))


def test_a_flat_program_has_no_plain_calls():
    assert {"pjit", "jit"} & set(names(jax.make_jaxpr(outer)(X)))  # its name by release
    program = flat_program(lambda pair: outer(pair["a"]) + pair["b"], {"a": X, "b": X})
    assert "pjit" not in names(program) and len(program.jaxpr.invars) == 2
    np.testing.assert_allclose(evaluate(program, [X, 2 * X])[0], outer(X) + 2 * X)


def test_a_flat_program_keeps_custom_derivatives():
    program = flat_program(doubled, X)
    assert names(program) == ["custom_jvp_call"]
    gradient = jax.grad(lambda x: jnp.sum(evaluate(program, [x])[0]))(X)
    np.testing.assert_array_equal(gradient, [5.0, 5.0, 5.0])


def test_a_rewritten_function_has_the_values_and_derivatives_of_its_new_equations():
    def right(x):
        return jnp.cos(jnp.cos(x) * 2.0) + jnp.cos(x + 1.0) * 2.0

    function = rewritten(outer, cosine_for_sine)
    np.testing.assert_allclose(jax.jit(function)(X), right(X), rtol=1e-6)
    ours = jax.jit(jax.grad(lambda x: jnp.sum(function(x))))(X)
    theirs = jax.grad(lambda x: jnp.sum(right(x)))(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_rewritten_function_takes_and_returns_pytrees():
    function = rewritten(
        lambda pair: {"sum": pair[0] + inner(pair[1])}, lambda *_: None
    )
    result = function((X, X))
    np.testing.assert_array_equal(result["sum"], X + inner(X))


def test_values_may_be_objects_of_the_caller():
    """An analysis: the number of multiplications on the way to each value."""

    def depth(eqn, inputs):
        if called(eqn) is not None:
            return None
        most = max((v for v in inputs if isinstance(v, int)), default=0)
        return [most + (eqn.primitive.name == "mul")] * len(eqn.outvars)

    def function(x, y):
        return inner(inner(x)) * y, x + 1.0

    program = jax.make_jaxpr(function)(X, X)
    assert evaluate(program, [0, 4], depth) == [5, 0]


@pytest.mark.parametrize("wrap", [jax.checkpoint, lambda f: doubled])
def test_calls_with_derivatives_of_their_own_are_followed_only_on_request(wrap):
    (eqn,) = jax.make_jaxpr(wrap(jnp.sin))(X).eqns
    assert called(eqn) is None
    body = called(eqn, derivatives=False)
    assert names(body) in (["sin"], ["mul"])


def test_equations_add_their_outputs_to_what_is_known():
    program = jax.make_jaxpr(lambda x: (x + 1.0) * 3.0)(X)
    first, second = program.jaxpr.eqns
    values = {program.jaxpr.invars[0]: X}
    evaluate_equations([first], values)
    assert second.outvars[0] not in values
    np.testing.assert_array_equal(values[first.outvars[0]], X + 1.0)


def test_the_largest_value_is_that_of_what_depends_on_the_inputs():
    def function(weights, x):
        return jnp.sum(jnp.outer(x, x)) + jnp.sum(jnp.outer(weights, weights))

    program = flat_program(function, jnp.zeros(100), jnp.zeros(7))
    assert largest_value(program, [1]) == 7 * 7 * 4
    assert largest_value(program, [0]) == 100 * 100 * 4
    assert largest_value(flat_program(lambda x: x[:1], jnp.zeros(9)), [0]) == 9 * 4


def test_whether_a_function_depends_on_the_values_of_its_arguments():
    assert depends_on(lambda x: x.sum(), X)
    assert depends_on(lambda x, y: (jnp.ones(3), y), X, X)
    assert depends_on(jax.jit(lambda x: jnp.where(x > 0, 1.0, 2.0)), X)
    assert not depends_on(lambda x: 1.0 / x.size, X)
    assert not depends_on(lambda x: jnp.zeros_like(x) + 1, X)
