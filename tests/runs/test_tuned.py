"""The table of public hyper-parameters."""

import math

import pytest

from fedjax_private.runs import ARMS, Spec
from fedjax_private.runs.tuned import CENTRAL, LOCAL, budget


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


@pytest.mark.parametrize(
    ("asked", "like"),
    [
        (("mnist_5k", "shallow_cnn", 0.5), ("mnist_5k", "shallow_cnn", 0.563)),
        (("mnist_5k", "shallow_cnn", None), ("mnist_5k", "shallow_cnn", 2.9)),
        (("mnist_5k", "shallow_cnn", 1.3), ("mnist_5k", "shallow_cnn", 2.9)),
        (("cifar10", "polynomial_cnn", 2.9), ("mnist", "polynomial_cnn", 2.9)),
        (("cifar10", "my:model", 9.0), ("mnist", "tutorial_cnn", 2.9)),
    ],
)
def test_what_is_not_in_the_table_takes_the_nearest(asked, like):
    dataset, model, epsilon = like
    assert budget(CENTRAL, *asked) == CENTRAL[dataset, model][epsilon]


def test_local_noise_has_a_value_for_every_data_set_and_model():
    assert budget(LOCAL, "mnist", "shallow_cnn", 2.9).steps == 80
    assert budget(LOCAL, "svhn", "my:model", 1.0).steps == 20
