import dataclasses
import json

import numpy as np
import pytest

from fedjax_private import aggregation, datasets, models
from fedjax_private.algorithms.entry import ALGORITHMS
from fedjax_private.runs import ARMS, Spec
from fedjax_private.trust import Decryptor


def test_names_tell_runs_apart():
    assert Spec(arm="fl_dp", clients=3).name == "fl_dp-3-iid-0"
    shards = Spec(arm="fl", clients=8, partition="shards", seed=2, label="cost-ckks")
    assert shards.name == "cost-ckks-fl-8-shards-2"
    partition = datasets.PARTITIONS.choose("dirichlet", {"alpha": 0.3})
    assert Spec(arm="fl", partition=partition).name == "fl-4-dirichlet-0"
    own = dataclasses.replace(datasets.PARTITIONS.find("iid"), name="../my/parts:deal")
    assert Spec(arm="fl", partition=own).name == "fl-4-.._my_parts_deal-0"


def test_names_of_runs_with_long_labels_fit_into_file_names_and_differ():
    def name(label):
        return Spec(arm="fl", label=label).name

    assert name("x" * 120) == "x" * 120 + "-fl-4-iid-0"  # as it is
    long = [name("é" * 200 + end) for end in ("a", "b")]
    assert len(set(long)) == 2
    assert all(each.endswith("-fl-4-iid-0") for each in long)
    assert all(len(each.encode()) < 200 for each in long)


def test_choices_are_given_by_name_as_entries_or_with_settings():
    entry = models.MODELS.find("linear")
    named, given = Spec(model="linear"), Spec(model=entry)
    assert named == given == Spec(model=models.MODELS.choose(entry))
    assert hash(named) == hash(given)
    assert named.model_entry is entry
    with pytest.raises(ValueError, match="model 'resnet' is unknown: choose one of"):
        Spec(model="resnet")
    with pytest.raises(ValueError, match=r"partition=linear must be .*got ModelEntry"):
        Spec(partition=entry)


def test_a_description_holds_every_setting_as_plain_values():
    partition = datasets.PARTITIONS.choose("dirichlet", {"alpha": 0.3})
    described = Spec(partition=partition, algorithm=None, rounds=7).described()
    assert described.keys() == {field.name for field in dataclasses.fields(Spec)}
    assert json.loads(json.dumps(described)) == described
    assert described["partition"] == {
        "name": "dirichlet",
        "size_skew": 0.0,
        "alpha": 0.3,
    }
    assert described["encryption"]["precision"] == 1e-4
    assert (described["rounds"], described["algorithm"]) == (7, None)


MISTAKES = [
    ({"arm": "magic"}, "arm must be one of centralized, .*, got magic"),
    ({"clients": 0}, "clients must be at least 1"),
    ({"seed": -1}, "seed must be finite and not negative"),
    ({"rounds": 0}, "rounds must be at least 1"),
    ({"batch_size": -1}, "batch_size must"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"learning_rate": float("nan")}, "learning_rate must"),
    ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
    ({"drop_out": 1.0}, r"drop_out must lie in \[0, 1\)"),
    ({"delta": 1.0}, r"delta must lie in \(0, 1\)"),
    ({"epsilon": float("inf")}, "epsilon must be positive and finite"),
    ({"noise_multiplier": -1.0}, "noise_multiplier must"),
    ({"sampling_probability": 1.5}, r"sampling_probability must lie in \(0, 1\]"),
    ({"noise": "loud"}, "noise must be one of local, distributed"),
    ({"epsilon_against": "everyone"}, "must be one of outsiders, insiders"),
    ({"backend": "pmap"}, "backend must be one of auto"),
    ({"activation": "step"}, "activation must be one of relu"),
    ({"server_optimizer": "lion"}, "server_optimizer 'lion' is unknown.* sgd"),
    ({"epsilon": 2.0, "noise_multiplier": 1.0}, "give epsilon or noise_multiplier"),
    ({"local_epochs": 1, "local_steps": 1}, "give local_epochs or local_steps"),
]


@pytest.mark.parametrize(("settings", "named"), MISTAKES)
def test_bad_values_are_one_sentence_about_arguments(settings, named):
    with pytest.raises(ValueError, match=named) as raised:
        Spec(**settings)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_runs_the_algorithms_that_name_it(arm):
    noise = {"noise": "local"} if ARMS[arm].encrypted and not ARMS[arm].shared else {}
    assert Spec(arm=arm).chosen_algorithm.name == ARMS[arm].algorithm
    for entry in ALGORITHMS.entries():
        asked = Spec(arm=arm, algorithm=entry.name, **noise)
        if arm in entry.arms:
            assert asked.chosen_algorithm.entry is entry
            assert asked.hyperparameters.rounds >= 1
        else:
            with pytest.raises(ValueError, match=f"algorithm={entry.name} is for arm"):
                assert asked.chosen_algorithm


def test_noise_says_which_of_two_arms_it_is():
    told = Spec(arm="private_ai", noise="local")
    assert told.chosen_algorithm.name == "fedavg" and not told.shares_noise
    shared = Spec(arm="private_ai_local", noise="distributed")
    assert shared.chosen_algorithm.name == "distributed_dp_sgd" and shared.shares_noise
    assert Spec(arm="private_ai").shares_noise
    for arm in ("fl", "fl_he", "centralized_dp"):
        assert not Spec(arm=arm, noise="distributed").shares_noise


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"arm": "fl_dp", "noise": "distributed"},
            "arm fl_dp encrypts nothing: give arm=private_ai or leave out noise",
        ),
        (
            {"arm": "private_ai", "encryption": "none"},
            "encryption=none lets the server read every share of private_ai's noise",
        ),
    ],
)
def test_noise_is_shared_where_the_server_reads_no_upload(settings, named):
    with pytest.raises(ValueError, match=named):
        assert Spec(**settings).shares_noise
    with pytest.raises(ValueError, match=named):
        assert Spec(**settings).hyperparameters


@pytest.mark.parametrize(
    ("settings", "uploads", "decryptor", "honest"),
    [
        ({"arm": "fl"}, 1, Decryptor.NOBODY_NEEDED, 1),
        ({"arm": "fl_dp", "min_uploads": 5}, 5, Decryptor.NOBODY_NEEDED, 4),
        ({"arm": "fl_he"}, 8, Decryptor.KEY_AUTHORITY, 7),
        ({"arm": "fl_he", "cohort": 5}, 5, Decryptor.KEY_AUTHORITY, 4),
        ({"arm": "fl_he", "encryption": "none"}, 1, Decryptor.NOBODY_NEEDED, 1),
        ({"encryption": "threshold_exact"}, 8, Decryptor.HOLDERS, 7),
        ({"min_uploads": 3, "honest_clients": 2}, 3, Decryptor.KEY_AUTHORITY, 2),
    ],
)
def test_trust_follows_from_the_scheme_and_the_cohort(
    settings, uploads, decryptor, honest
):
    trust = Spec(clients=8, **settings).trust
    assert (trust.uploads, trust.decryptor) == (uploads, decryptor)
    assert trust.honest_clients == honest


def test_one_key_in_every_client_s_kit_is_named():
    scheme = aggregation.SCHEMES.choose("exact", {"key_holder": "clients"})
    trust = Spec(encryption=scheme).trust
    assert trust.decryptor is Decryptor.EVERY_CLIENT and trust.insiders_read_uploads


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_uploads": 9}, "min_uploads must lie between 1 and the 8 clients"),
        ({"min_uploads": 4, "cohort": 3}, "and the 3 clients of a round, got 4"),
        ({"honest_clients": 9}, "honest_clients must .* the 8 uploads of a sum, got 9"),
        ({"honest_clients": 3, "min_uploads": 2}, "between 1 and the 2 uploads"),
    ],
)
def test_no_sum_asks_for_more_clients_than_it_has(settings, named):
    with pytest.raises(ValueError, match=named):
        assert Spec(clients=8, **settings).trust


def test_given_values_replace_the_tuned_ones():
    for name, arm in ARMS.items():
        values = Spec(
            arm=name, rounds=7, local_steps=3, learning_rate=0.01, clip_norm=0.3
        ).hyperparameters
        assert (values.rounds, values.local_steps, values.learning_rate) == (7, 3, 0.01)
        assert values.local_epochs is None
        assert values.clip_norm == (0.3 if arm.private else None)


def test_an_algorithm_s_own_values_come_between_the_tuned_and_the_given_ones():
    def momentum(**settings):
        return Spec(arm="fl", **settings).hyperparameters.momentum

    assert momentum() == 0.9
    assert momentum(algorithm="scaffold") == 0.0
    assert momentum(algorithm="scaffold", momentum=0.5) == 0.5


def test_the_model_that_nobody_names_follows_the_data():
    for dataset, model in (
        ("mnist_5k", "tutorial_cnn"),
        ("idx:/data", "tutorial_cnn"),
        ("breast_cancer", "linear"),
        ("csv:ward.csv", "linear"),
    ):
        spec = Spec(arm="fl", dataset=dataset)
        assert spec.model_entry.name == model
        assert spec.described()["model"]["name"] == model
        named = dataclasses.replace(spec, model="mlp_2nn")
        assert named.model_entry.name == "mlp_2nn"
    inputs = np.zeros((4, 3), np.float32)
    labels = np.array([0, 1, 0, 1], np.int32)
    examples = datasets.Examples(inputs, labels)
    table = datasets.Dataset("mine", examples, examples, 2)
    assert Spec(dataset=table).model_entry.name == "linear"
