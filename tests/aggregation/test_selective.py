import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation import most_sensitive, sensitivity
from tests.aggregation.sums import encoded, made, released


def test_the_most_sensitive_entries_are_chosen():
    scores = np.array([0.1, 3.0, 2.0, 0.0])
    assert most_sensitive(scores, 0.5).tolist() == [False, True, True, False]
    assert most_sensitive(scores, 1e-9).tolist() == [False, True, False, False]
    assert most_sensitive(scores, 1.0).all()
    with pytest.raises(ValueError, match="fraction must lie in"):
        most_sensitive(scores, 0.0)


def test_sensitivity_is_that_of_a_linear_model_by_hand():
    # loss = -sum_c y_c log p_c with logits W x: the gradient for W_c is (p_c - y_c) x
    # times sum(y), so its derivative for y_d is (p_c - 1[c = d]) x at a one-hot y.
    weights = jnp.array([[0.3, -0.2], [0.1, 0.4]])  # (inputs, classes)
    x = jnp.array([[1.0, -2.0]])
    p = np.asarray(jax.nn.softmax(x[0] @ weights))
    found = sensitivity(lambda w, inputs: inputs @ w, weights, x, jnp.array([1]))
    per_class = [sum(abs(p[c] - (c == d)) for d in range(2)) for c in range(2)]
    expected = np.abs(np.outer(np.asarray(x[0]), per_class)).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_selective_sums_equal_whole_ones(name):
    rows = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 20_000))
    mask = np.random.default_rng(1).random(20_000) < 0.2
    whole, part = made(name, 3, 20_000), made(name, 3, 20_000, encrypted=mask)
    slots = encoded(whole, rows)
    np.testing.assert_array_equal(encoded(part, rows), slots)
    (a, of_whole), (b, of_part) = released(whole, slots), released(part, slots)
    np.testing.assert_allclose(a, b, atol=0 if name == "exact" else 1e-3)
    assert of_part.upload_bytes_per_client < of_whole.upload_bytes_per_client
    assert (
        f"{1 - mask.mean():.1%} of the entries are sent in the clear"
        in part.description
    )
