"""A research fork: a mechanism in a file of its own, run without touching our code."""

import json
import os

import numpy as np
import pytest
from experiments.spec import Spec
from fedjax_private.simulation.records import RunDirectory, read_rows

from experiments import build, config, pricing
from fedjax_private.datasets import load
from fedjax_private.privacy.accounting import (
    BandedMatrix,
    Ledger,
    from_json,
)
from fedjax_private.trust import Adversary
from tests.experiments.test_commands import SMALL, run

FORK = '''
"""Laplace noise on gradients that are clipped coordinate by coordinate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.privacy import (
    Clipping, Noise, PoissonSampling, PrivacyPlan, per_example_gradients,
)
from fedjax_private.privacy.accounting import Event, Repeated, register


@dataclasses.dataclass(frozen=True)
class ClippedLaplace(Event):
    scale: float  # over the L1 bound


def rdp(event, orders, neighbors, price):
    if event.scale == 0:
        return np.full_like(orders, np.inf)
    pure = neighbors.sensitivity / event.scale
    return np.minimum(pure, orders * pure**2 / 2)  # Bun, Steinke 2016, proposition 3.3


register(ClippedLaplace, rdp, pure=lambda e, n: n.sensitivity / e.scale)


@dataclasses.dataclass(frozen=True)
class CoordinateClipping(Clipping):
    """Each of the P coordinates to at most C / P, so that the L1 norm is at most C."""

    norm = 1

    def summed(self, loss):
        gradients_of = per_example_gradients(loss)

        def summed(params, inputs, labels, valid, state):
            gradients = gradients_of(params, inputs, labels)
            bound = self.clip_norm / gradients.shape[1] * (1 - 1e-5)
            finite = jnp.isfinite(gradients).all(axis=1) & valid
            clipped = jnp.clip(gradients, -bound, bound)
            return jnp.where(finite[:, None], clipped, 0.0).sum(axis=0)

        return summed


@dataclasses.dataclass(frozen=True)
class LaplaceNoise(Noise):
    norm = 1

    def add(self, key, total, bound, state):
        scale = self.noise_multiplier * bound
        return total + scale * jax.random.laplace(key, total.shape), state

    def event(self, sampler, steps):
        return Repeated(sampler.event(ClippedLaplace(self.noise_multiplier)), steps)


def laplace(settings):
    return PrivacyPlan(
        PoissonSampling(settings.sampling_probability),
        CoordinateClipping(settings.clip_norm),
        LaplaceNoise(settings.noise_multiplier),
        settings.expected_batch_size,
        settings.neighbors,
    )


FORK_IS_DATA = 1


def not_a_plan(settings):
    return "no plan"
'''


@pytest.fixture
def fork(tmp_path):
    """The environment of a process that finds the fork's file."""
    (tmp_path / "my_fork.py").write_text(FORK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path}


def charges(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()[1:]]


def test_a_fork_s_mechanism_is_priced_calibrated_and_run(fork, tmp_path):
    out = tmp_path / "run"
    finished = run(
        "train",
        "--arm=fl_dp",
        *SMALL,
        "--epsilon=1.5",
        "--mechanism=my_fork:laplace",
        f"--out={out}",
        env=fork,
    )
    assert finished.returncode == 0, finished.stderr
    (row,) = read_rows(out / "runs.jsonl")
    assert 1.49 < row["epsilon"] <= 1.5
    assert row["steps"] == 4
    assert np.isfinite(row["loss"])
    (ledger,) = (out / "ledger").iterdir()
    first, second = charges(ledger)
    assert first["event"] == second["event"]
    assert first["event"]["event"] == {
        "type": "Poisson",
        "sampling_probability": row["sampling_probability"],
        "event": {"type": "ClippedLaplace", "scale": row["noise_multiplier"]},
    }
    assert "mechanism my_fork:laplace" in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("magic", "gaussian"),
        ("no_such_module:f", "no_such_module"),
        ("my_fork:nothing", "nothing"),
        ("my_fork:FORK_IS_DATA", "FORK_IS_DATA"),
        ("my_fork:not_a_plan", "no privacy plan"),
    ],
)
def test_bad_mechanisms_are_one_sentence_and_exit_status_two(
    fork, tmp_path, name, named
):
    finished = run(
        "train",
        "--arm=fl_dp",
        *SMALL,
        f"--mechanism={name}",
        f"--out={tmp_path / 'run'}",
        env=fork,
    )
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: ") and "--mechanism" in line and named in line
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def dataset():
    return load("mnist_5k")


def prepared(dataset, arm="fl_dp", cohort=None, encryption="ckks", **privacy):
    settings = config.Settings(
        training=config.TrainingConfig(model="linear", rounds=3, cohort=cohort),
        privacy=config.PrivacyConfig(**privacy),
        encryption=config.EncryptionConfig(encryption=encryption),
    )
    return build.prepare(Spec(arm, 4, "iid", 0, settings), dataset)


@pytest.mark.parametrize(
    "arm",
    [
        "fl_dp",
        "centralized_dp",
        pytest.param("private_ai", marks=pytest.mark.needs_openfhe),
    ],
)
def test_correlated_noise_is_charged_once_and_whole(dataset, tmp_path, arm):
    """Before the first round, to everyone who will ever take part."""
    from experiments.run import run as train

    cohort = 2 if arm == "fl_dp" else None
    ready = prepared(dataset, arm, cohort, mechanism="banded", epsilon=2.0)
    privacy = ready.privacy
    directory = RunDirectory.create(tmp_path / "run")
    row = train(ready, dataset, directory)
    taking_part = np.unique(np.concatenate(ready.schedule))
    ledgers = sorted((directory.path / "ledger").iterdir())
    spent = []
    # In alphabetical order: insiders first, where there are any.
    adversaries = list(Adversary)[::-1] if len(ledgers) == 2 else [Adversary.OUTSIDERS]
    for path, adversary in zip(ledgers, adversaries, strict=True):
        (charge,) = charges(path)
        event = from_json(json.dumps(charge["event"]))
        assert isinstance(event, BandedMatrix)
        assert event == pricing.event(privacy.plan, privacy.steps, adversary)
        assert event.steps == privacy.steps == row["steps"]
        with Ledger(path, pricing.NEIGHBORS) as ledger:
            assert sorted(ledger.epsilons(1e-5)) == taking_part.tolist()
            spent.append(ledger.epsilon(1e-5))
    assert spent[-1] == pytest.approx(privacy.epsilon)
    assert spent[0] == pytest.approx(privacy.epsilon_insider or privacy.epsilon)
    rounds = read_rows(directory.path / "rounds.jsonl")
    assert [r["epsilon"] for r in rounds] == [pytest.approx(privacy.epsilon)] * 3
