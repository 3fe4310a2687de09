"""Which equations of a loss are sites, and where their operands come from."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.privacy.gradients.sites import read_loss

PARAMS = {"b": jnp.ones(3), "w": jnp.ones((4, 3))}  # leaves 0 and 1
INPUTS, LABELS = jnp.ones((5, 4)), jnp.ones(5)


def read(loss):
    return read_loss(loss, PARAMS, INPUTS, LABELS)


def used(program):
    """(the equation, the parameter arrays, whether they come whole) of every use."""
    return [
        (
            program.sites[use.site].eqn.primitive.name,
            sorted(use.origin.leaves),
            use.origin.whole,
        )
        for use in program.uses
    ]


def dense(params, inputs, labels):
    return jnp.sum(jnp.tanh(inputs @ params["w"] + params["b"]), axis=1) * labels


def test_a_dense_layer_has_two_sites():
    assert used(read(dense)) == [("dot_general", [1], True), ("add", [0], True)]


def test_parameters_that_are_computed_with_do_not_come_whole():
    def loss(params, inputs, labels):
        weight = params["w"] * params["b"] / jnp.linalg.norm(params["w"])
        return jnp.sum(inputs @ weight, axis=1)

    assert used(read(loss)) == [("dot_general", [0, 1], False)]


def test_operands_run_only_the_equations_that_they_need():
    program = read(dense)
    product, bias = program.uses
    assert bias.origin.equations and not product.origin.equations
    leaves = [2 * PARAMS["b"], 3 * PARAMS["w"]]
    weight, offset = program.operands(leaves, program.uses)
    np.testing.assert_array_equal(weight, leaves[1])
    np.testing.assert_array_equal(offset.ravel(), leaves[0])


def test_a_run_gives_the_loss_and_the_data_of_every_site():
    program = read(dense)
    leaves = [PARAMS["b"], PARAMS["w"]]
    taps = [[jnp.zeros(site.eqn.outvars[0].aval.shape)] for site in program.sites]
    example = jnp.arange(4.0)
    loss, records = program.run(
        program.fixed_values(leaves), taps, example, jnp.float32(2.0)
    )
    expected = dense(PARAMS, example[None], jnp.array([2.0]))
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_array_equal(records[0][0].ravel(), example)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, x, y: jnp.sum(x, 1) * y,
        lambda p, x, y: jnp.sum(p["w"]) + jnp.zeros(len(y)),
        lambda p, x, y: jnp.zeros(len(y)),
    ],
)
def test_a_loss_that_does_not_depend_on_both_has_no_program(loss):
    assert read(loss) is None
