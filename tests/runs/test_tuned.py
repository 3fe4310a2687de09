"""The table of public hyper-parameters."""

import math

import pytest

from fedjax_private.runs import ARMS, Spec
from fedjax_private.runs.tuned import CENTRAL, LOCAL, PLAIN, Origin, given_in, nearest


def values(arm, *names, **settings):
    hyperparameters = Spec(arm=arm, clients=8, **settings).hyperparameters
    return tuple(getattr(hyperparameters, name) for name in names)


def test_arms_do_equal_work():
    plain = [name for name, arm in ARMS.items() if not arm.private]
    passes = {values(arm, "rounds", "local_epochs", "batch_size") for arm in plain}
    assert len(passes) == 1


@pytest.mark.parametrize("model", ["tutorial_cnn", "scattering_linear"])
def test_shared_noise_takes_the_steps_of_central_dp_sgd(model):
    steps = (
        "rounds",
        "local_steps",
        "sampling_probability",
        "clip_norm",
        "learning_rate",
        "momentum",
    )
    for cohort in (1, 4, 8):
        shared = values("private_ai", *steps, cohort=cohort, model=model)
        assert shared == values("centralized_dp", *steps, model=model)
        assert shared[1] == 1


def test_local_noise_trains_alike_with_and_without_encryption():
    plain, encrypted, told = (
        Spec(arm=arm, clients=8, **settings).hyperparameters
        for arm, settings in (
            ("fl_dp", {}),
            ("private_ai_local", {}),
            ("private_ai", {"noise": "local"}),
        )
    )
    assert plain == encrypted == told
    assert plain.averaging is plain.signal_bound is None


def test_steps_of_local_noise_fall_with_the_cohort_whose_noise_adds_up():
    rates = [values("fl_dp", "learning_rate", cohort=k)[0] for k in (1, 2, 8)]
    assert rates == pytest.approx([rates[0] / math.sqrt(k) for k in (1, 2, 8)])


BREAST = "breast_cancer/linear"
SHALLOW, POLYNOMIAL = ("mnist_5k", "shallow_cnn"), ("mnist", "polynomial_cnn")


@pytest.mark.parametrize(
    ("table", "asked", "like"),
    [
        (CENTRAL, SHALLOW, SHALLOW),
        (CENTRAL, ("cifar10", "polynomial_cnn"), POLYNOMIAL),
        (CENTRAL, ("cifar10", "my:model"), ("mnist", "tutorial_cnn")),
        (CENTRAL, ("mnist_5k", "my:model"), ("mnist_5k", "tutorial_cnn")),
        (CENTRAL, ("idx:/data/mnist", "shallow_cnn"), ("mnist", "shallow_cnn")),
        (CENTRAL, ("idx:/data/mnist", "linear"), ("mnist", "tutorial_cnn")),
        (LOCAL, ("mnist", "shallow_cnn"), SHALLOW),
        (PLAIN, ("mnist", "shallow_cnn"), SHALLOW),
        (PLAIN, ("csv:a/b.csv", "linear"), ("breast_cancer", "linear")),
        (PLAIN, ("breast_cancer", "my:model"), ("breast_cancer", "mlp_2nn")),
        (CENTRAL, ("breast_cancer", "linear"), ("breast_cancer", "linear")),
        (CENTRAL, ("mnist", "linear"), ("mnist", "tutorial_cnn")),
        (CENTRAL, ("mnist_5k", "mlp_2nn"), ("mnist_5k", "tutorial_cnn")),
        (LOCAL, ("csv:a/b.csv", "my:model"), ("breast_cancer", "mlp_2nn")),
        (PLAIN, ("mnist", "linear"), ("mnist_5k", "tutorial_cnn")),
    ],
)
def test_what_is_not_in_the_table_takes_the_nearest(table, asked, like):
    of_tables = like[0] == "breast_cancer"
    assert nearest(table, *asked, table=of_tables) == like


@pytest.mark.parametrize(
    ("arm", "settings", "words"),
    [
        ("fl", {}, "mnist_5k/tutorial_cnn (searched)"),
        ("fl", {"model": "linear"}, "borrowed from mnist_5k/tutorial_cnn (searched)"),
        (
            "private_ai",
            {"model": "shallow_cnn", "epsilon": 0.5},
            "mnist_5k/shallow_cnn at epsilon 0.563 (searched)",
        ),
        (
            "centralized_dp",
            {"epsilon": 1.3},
            "mnist_5k/tutorial_cnn at epsilon 2.9 (searched)",
        ),
        (
            "centralized_dp",
            {"dataset": "mnist", "noise_multiplier": 1.0},
            "mnist/tutorial_cnn at epsilon 2.9 (literature, untested)",
        ),
        (
            "fl_dp",
            {"dataset": "cifar10", "learning_rate": 0.5, "rounds": 7},
            "borrowed from mnist_5k/tutorial_cnn at epsilon 2.9 (searched); "
            "given: rounds, learning_rate",
        ),
        (
            "fl",
            {"dataset": "csv:ward.csv", "model": "mlp_2nn"},
            "borrowed from breast_cancer/mlp_2nn (searched)",
        ),
        ("fl_dp", {"dataset": "breast_cancer"}, f"{BREAST} at epsilon 2.9 (searched)"),
        (
            "fl",
            {"algorithm": "scaffold"},
            "mnist_5k/tutorial_cnn (searched); scaffold's own: momentum",
        ),
        (
            "fl",
            {"algorithm": "scaffold", "momentum": 0.0, "clip_norm": 1.0},
            "mnist_5k/tutorial_cnn (searched); given: momentum",
        ),
    ],
)
def test_a_run_says_where_its_settings_come_from(arm, settings, words):
    assert str(Spec(arm=arm, **settings).settings_from) == words


def test_only_a_search_has_data_that_it_saw():
    searched = Spec(arm="fl_dp", dataset="mnist").settings_from
    assert searched.searched_on == "mnist_5k"
    untested = Spec(arm="centralized_dp", dataset="mnist").settings_from
    assert untested.searched_on is None


def test_the_names_of_given_values_are_read_back_from_an_origin():
    origin = Origin("x/y", "searched", None, replaced=("given: a, b",))
    assert given_in(str(origin)) == {"a", "b"}
    assert given_in("x/y (searched)") == frozenset()
