"""The cases that peers run, and the JAX networks on them."""

import operator

import jax
import pytest

CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}
ROUND = {"clients": 2, "examples": 8, "batch": 4, "epochs": 1}


def test_the_cases_and_networks_fit_together(worker_modules):
    cases = worker_modules("cases")
    networks = worker_modules("jax_networks")
    for kind, case, network, size in (
        ("clients", cases.ClientsCase(**CLIENTS), networks.tutorial_cnn, 26_010),
        ("round", cases.RoundCase(**ROUND), networks.round_cnn, 114_314),
    ):
        params, (images, labels) = case.parameters(), case.data()
        if kind == "clients":
            params = jax.tree.map(operator.itemgetter(0), params)
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size
        logits = jax.eval_shape(network, params, images[0])
        assert logits.shape == (len(labels[0]), 10)


@pytest.mark.parametrize(
    ("kind", "fields", "argument"),
    [
        ("ClientsCase", {**CLIENTS, "model": "resnet"}, "model"),
        ("RoundCase", {**ROUND, "batch": 3}, "batch"),
    ],
)
def test_impossible_cases_are_refused(worker_modules, kind, fields, argument):
    with pytest.raises(ValueError, match=f"^{argument} must .*, got .*[.]$"):
        getattr(worker_modules("cases"), kind)(**fields)
