"""Entries of a module outside the library, chosen by name, trained and loaded."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.datasets import PARTITIONS
from fedjax_private.models import MODELS
from fedjax_private.privacy.mechanisms import MECHANISMS
from tests.runs.small import spec


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture
def train(tmp_path):
    """Settings -> the result, of a run on the researcher's own data."""

    def trained(**settings):
        usual = {"dataset": "research:rings", "model": "research:RINGS"}
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        return runs.train(spec(**usual | settings), out=out)

    return trained


def kernel(result):
    return np.asarray(jax.tree.leaves(result.params)[-1])


def kernel_of(model, seed):
    return np.asarray(jax.tree.leaves(model.init(jax.random.key(seed)))[-1])


def test_a_data_set_and_a_model_are_found_again_by_name(train):
    choice = MODELS.choose("research:RINGS", {"width": 24})
    result = train(model=choice, activation="tanh", rounds=4, local_steps=20)
    assert result.row["dataset"] == "rings"
    assert result.row["model"] == "research:RINGS"
    assert result.prepared.parameters == 3 * 24 + 25 * 2
    assert result.accuracy > 0.8
    loaded = runs.load(result.directory)
    assert loaded.spec["model"] == {"name": "research:RINGS", "width": 24}
    assert loaded.dataset == "research:rings"
    test = result.prepared.dataset.test
    right = loaded.predict(test.inputs).argmax(axis=1) == test.labels
    assert right.mean() == pytest.approx(result.accuracy)


@pytest.mark.parametrize(
    "place", [{"arm": "fl_dp"}, {"arm": "private_ai", "encryption": "research:BOXED"}]
)
def test_an_nnx_module_is_trained_in_private_arms_and_loaded(place, train):
    result = train(model="research:Layers", clip_norm=1.0, **place)
    assert result.row["model"] == "research:Layers"
    assert result.prepared.parameters == 3 * 16 + 17 * 2
    assert not np.allclose(kernel(result), kernel_of(result.model, seed=0))
    loaded = runs.load(result.directory)
    inputs = result.prepared.dataset.test.inputs
    np.testing.assert_array_equal(
        loaded.predict(inputs), result.model.apply(result.params, inputs)
    )


def test_a_partition(train):
    assert train(partition="research:interleaved").prepared.spec.name == (
        "fl-3-research_interleaved-0"
    )
    result = train(partition=PARTITIONS.choose("research:CAPPED", {"most": 7}))
    assert result.prepared.data.mask.sum(axis=1).tolist() == [7, 7, 7]
    assert result.row["partition"] == "research:CAPPED"
    config = json.loads((result.directory / "config.json").read_text())
    (described,) = config["runs"].values()
    assert described["spec"]["partition"] == {"name": "research:CAPPED", "most": 7}


def test_a_client_function(train):
    once, twice = train(), train(client="research:twice")
    assert not np.allclose(kernel(once), kernel(twice))


def test_metrics_of_other_names_stand_in_no_row(train):
    line = train(client="research:scored").rows[-1]
    assert line["train_loss"] is None
    assert "examples" not in line


def test_a_private_client_function(train):
    result = train(arm="fl_dp", client="research:PRIVATE", epsilon=3.0)
    assert 2.9 < result.epsilon <= 3.0
    assert result.row["mechanism"] == "gaussian"


def test_a_server_optimizer(train):
    result = train(server_optimizer="research:signs", server_learning_rate=0.25)
    start = result.model.init(jax.random.key(0))
    moved = (kernel(result) - np.asarray(jax.tree.leaves(start)[-1])) / 0.25
    np.testing.assert_allclose(moved, moved.round(), atol=1e-5)
    assert np.abs(moved).max() == pytest.approx(2, abs=1e-5)


def test_an_algorithm(train):
    def algorithm(decay):
        return ALGORITHMS.choose("research:SHRINKING", {"decay": decay})

    first = train(algorithm=algorithm(1e-6), rounds=1)
    still = train(algorithm=algorithm(1e-6))
    moving = train(algorithm=algorithm(1.0))
    np.testing.assert_allclose(kernel(first), kernel(still), atol=1e-4)
    assert np.abs(kernel(first) - kernel(moving)).max() > 1e-3
    assert moving.row["algorithm"] == "research:SHRINKING"
    private = train(arm="fl_dp", algorithm="research:SHRINKING")
    assert private.row["unit"] == "record"
    with pytest.raises(ValueError, match="research:SHRINKING is for arm fl or fl_dp"):
        train(arm="fl_he", algorithm="research:SHRINKING")


def test_a_scheme_needs_no_openfhe(train):
    scheme = SCHEMES.choose("research:BOXED", {"scale": 4.0})
    result = train(arm="fl_he", encryption=scheme)
    assert result.prepared.sums.startswith("A box of scale 4")
    assert result.row["encryption"] == "research:BOXED"
    np.testing.assert_allclose(kernel(result), kernel(train()), atol=1e-5)
    # Shares of noise go through the scheme's own encoding, too.
    one, four = (
        train(
            arm="private_ai",
            encryption=SCHEMES.choose("research:BOXED", {"scale": scale}),
            noise_seed=1,
        )
        for scale in (1.0, 4.0)
    )
    np.testing.assert_array_equal(kernel(one), kernel(four))
    shared = train(arm="private_ai", encryption="research:BOXED")
    assert shared.epsilon < shared.epsilon_insider < float("inf")


def test_a_mechanism_is_priced_calibrated_and_run(train):
    result = train(arm="fl_dp", mechanism="research:laplace", epsilon=1.5)
    assert 1.49 < result.epsilon <= 1.5
    assert result.row["steps"] == 4
    assert np.isfinite(result.row["loss"])
    (ledger,) = (result.directory / "ledger").iterdir()
    charges = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    assert charges[0]["event"] == charges[1]["event"]
    assert charges[0]["event"]["event"] == {
        "type": "Poisson",
        "sampling_probability": 0.5,
        "event": {
            "type": "ClippedLaplace",
            "scale": result.row["noise_multiplier"],
        },
    }


@pytest.mark.parametrize(
    "place",
    [{"arm": "centralized_dp"}, {"arm": "private_ai", "encryption": "research:BOXED"}],
)
def test_a_mechanism_with_settings(place, train):
    plain, careful = (
        train(mechanism=mechanism, **place)
        for mechanism in (
            "gaussian",
            MECHANISMS.choose("research:CAREFUL", {"margin": 2.0}),
        )
    )
    assert careful.epsilon < plain.epsilon
    assert careful.row["mechanism"] == "research:CAREFUL"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mechanism": "research:NUMBER"}, "mechanism=research:NUMBER must be a Mech"),
        ({"mechanism": "research:not_a_plan"}, "returns a PrivacyPlan, got 'no plan'"),
        ({"mechanism": "research:nothing"}, "no attribute 'nothing'"),
        ({"mechanism": "research:rings"}, "MechanismSettings.*got rings: too many"),
        (
            {
                "arm": "private_ai",
                "mechanism": "research:laplace",
                "encryption": "research:BOXED",
            },
            r"LaplaceNoise cannot be shared.*method summed\(count\)",
        ),
        ({"client": "research:signs"}, r"\(loss, hyper-parameters\).*got signs: too"),
        ({"server_optimizer": "research:rings"}, r"\(learning rate\).*got rings: too"),
        ({"algorithm": "research:AIMLESS"}, "make returns an Algorithm, got 'no algo"),
        ({"algorithm": "research:FREE"}, "price returns a Privacy.*got None"),
        ({"model": "research:rings"}, "rings: too many positional.*name a function"),
        ({"client": "research:not_a_trainer"}, "client=research:not_a_trainer"),
        ({"server_optimizer": "research:NUMBER"}, "server_optimizer=research:NUMBER"),
        ({"algorithm": "research:signs"}, "signs is no AlgorithmEntry"),
        ({"encryption": "research:signs"}, "signs is no SchemeEntry"),
        ({"partition": "research:NUMBER"}, "partition=research:NUMBER"),
        ({"model": "research:NUMBER"}, "model research:NUMBER must be"),
        ({"dataset": "research:NUMBER"}, "dataset research:NUMBER must be"),
        ({"arm": "fl", "client": "research:PRIVATE"}, "noises its steps"),
        ({"arm": "fl_dp", "client": "research:twice"}, "adds no noise"),
    ],
)
def test_what_is_no_entry_is_one_sentence(settings, named, train):
    with pytest.raises(ValueError, match=named):
        train(**{"arm": "fl_dp"} | settings)
