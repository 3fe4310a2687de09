"""What prepared runs train with."""

import jax

from fedjax_private.runs.building import build_aggregation, build_algorithm


def test_equal_runs_share_models_and_algorithms(prepare):
    one, other = prepare(arm="fl", seed=0), prepare(arm="fl", seed=1)
    assert one.model is other.model
    assert one.model is not prepare(model="mlp_2nn").model
    sums = [
        build_aggregation(each, each.model.init(jax.random.key(0)))
        for each in (one, other)
    ]
    built = build_algorithm(one, sums[0])
    assert built is build_algorithm(one, sums[0])
