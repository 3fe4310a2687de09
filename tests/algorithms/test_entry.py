"""Algorithms as runs see them: the library's own, and those of a user's module."""

import dataclasses
import math
import textwrap

import jax
import numpy as np
import pytest

from fedjax_private import runs
from fedjax_private.algorithms import (
    ALGORITHMS,
    SERVER_OPTIMIZERS,
    Training,
    Unit,
    local_price,
)
from fedjax_private.clients import CLIENTS
from fedjax_private.datasets import Dataset, Examples, Normalization
from fedjax_private.trust import Adversary

CLAIMING = {"truex", "nbafl"}
CLIENT_LEVEL = {"nbafl", "dp_fedavg"}
CASES = [
    pytest.param(
        entry.name,
        arm,
        marks=[pytest.mark.needs_openfhe] if runs.ARMS[arm].encrypted else [],
    )
    for entry in ALGORITHMS.entries()
    for arm in entry.arms
]


@pytest.fixture(scope="module")
def dataset():
    """Rows of four floats in three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(240, dtype=np.int32) % 3
    inputs = rng.normal(size=(240, 4)) + 3 * np.eye(3, 4)[labels]
    examples = Examples(inputs.astype(np.float32), labels)
    return Dataset("rows", examples, examples, 3, Normalization(0.0, 1.0))


@pytest.fixture
def train(dataset, tmp_path):
    def trained(**values):
        values = {"model": "linear", "rounds": 2} | values
        if not runs.ARMS[values["arm"]].pooled:
            values.setdefault("clients", 3)
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return runs.train(runs.Spec(**values), out=out, dataset=dataset)

    return trained


def test_every_arm_has_an_algorithm():
    assert {arm for entry in ALGORITHMS.entries() for arm in entry.arms} == {*runs.ARMS}
    for name, arm in runs.ARMS.items():
        assert name in ALGORITHMS.find(arm.algorithm).arms


@pytest.mark.parametrize(("name", "arm"), CASES)
def test_every_algorithm_runs_in_each_of_its_arms(train, name, arm):
    result, traits = train(algorithm=name, arm=arm), runs.ARMS[arm]
    row, last = result.row, result.rows[-1]
    assert (row["algorithm"], row["rounds"]) == (name, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.models))
    privacy = result.prepared.privacy
    assert (privacy is not None) is traits.private
    if privacy is None:
        assert row["epsilon"] is row["epsilon_insider"] is row["unit"] is None
        return
    assert 2.89 < row["epsilon"] <= 2.9
    assert last["epsilon"] == pytest.approx(row["epsilon"])
    assert privacy.unit is (Unit.CLIENT if name in CLIENT_LEVEL else Unit.RECORD)
    assert row["unit"] == privacy.unit.value
    assert (row["epsilon_claimed"] is not None) is (name in CLAIMING)
    insiders = row["epsilon_insider"]
    if name == "dp_fedavg":  # the server is trusted
        assert insiders == math.inf
    elif traits.shared:
        assert row["epsilon"] < insiders < math.inf
    elif traits.federated:
        assert insiders == row["epsilon"]
    else:
        assert insiders is None
    both = name == "dp_fedavg" or traits.shared
    assert set(privacy.against) == {*Adversary} - (
        set() if both else {Adversary.INSIDERS}
    )


@pytest.mark.parametrize("name", ALGORITHMS.names)
def test_lost_uploads_are_refused_where_all_are_needed(dataset, name):
    entry = ALGORITHMS.find(name)
    assert entry.tolerates_loss is (name not in ("scaffold", "nbafl"))
    spec = runs.Spec(
        arm=entry.arms[0], algorithm=name, model="linear", rounds=2, drop_out=0.2
    ).used_only()
    if not spec.drop_out or entry.tolerates_loss:
        assert runs.prepare(spec, dataset).spec.drop_out == spec.drop_out
        return
    with pytest.raises(ValueError, match="every upload of its clients"):
        runs.prepare(spec, dataset)


# A module of a user's, which no other module of the library names.
OUTSIDE = '''
import dataclasses

import jax
import optax

from fedjax_private.algorithms import AlgorithmEntry, Training, fedavg, local_price
from fedjax_private.choices import Settings, positive, setting
from fedjax_private.clients import (
    ClientEntry, DpSgdConfig, SgdConfig, dp_sgd, federated, kept, sgd,
)


@dataclasses.dataclass(frozen=True)
class Shrinking(Settings):
    factor: float = setting(1.0, "of the server's step", positive)


def make(task):
    trainer = task.trainer("sgd" if task.plan is None else "dp_sgd")
    client = federated(trainer, task.weight())
    server = optax.sgd(task.settings.factor)
    sums = task.sums, task.params_like, task.backend, kept(trainer)
    return fedavg(client, server, *sums)


SHRINKING = AlgorithmEntry(
    "shrinking",
    "FedAvg with a factor",
    make,
    arms=("fl", "fl_dp"),
    training=Training.DP_SGD,
    price=lambda terms, settings: local_price(terms),
    takes_client=True,
    settings=Shrinking,
)
UNPRICED = dataclasses.replace(
    SHRINKING, name="unpriced", price=AlgorithmEntry.price
)


def still(loss, values):
    """Takes steps that are too small to matter."""
    return sgd(loss, SgdConfig(1e-12, batch_size=values.batch_size))


def noisy(loss, values, plan, settings):
    return dp_sgd(loss, DpSgdConfig(1e-12, steps=values.noisy_steps), plan)


NOISY = ClientEntry("noisy", "DP-SGD that does not move", noisy, private=True)


def standing(learning_rate):
    """Takes no step."""
    return optax.set_to_zero()
'''


@pytest.fixture
def outside(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(str(folder))


def moved(result):
    """The largest change of a parameter, from the first model to the last."""
    start = result.model.init(jax.random.key(result.prepared.spec.seed))
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), start, result.params)
    return max(jax.tree.leaves(changes))


@pytest.mark.parametrize("arm", ["fl", "fl_dp"])
def test_an_algorithm_from_outside_runs(outside, train, arm):
    place = {"arm": arm, "noise_seed": 1 if runs.ARMS[arm].private else None}
    whole = train(algorithm="outside:SHRINKING", **place)
    choice = ALGORITHMS.choose("outside:SHRINKING", {"factor": 0.25})
    less = train(algorithm=choice, rounds=1, **place)
    first = train(algorithm=choice.entry, rounds=1, **place)
    # By its address it can be found again.
    assert whole.row["algorithm"] == "outside:SHRINKING"
    assert moved(less) == pytest.approx(moved(first) / 4, rel=1e-3)
    assert (whole.epsilon is not None) is (arm == "fl_dp")
    config = dataclasses.asdict(less.prepared.algorithm.settings)
    assert config == {"factor": 0.25}


def test_an_algorithm_without_a_price_runs_without_dp_only(outside, train):
    assert train(arm="fl", algorithm="outside:UNPRICED").epsilon is None
    with pytest.raises(ValueError, match=r"UNPRICED names arm fl_dp.*give its entry"):
        train(arm="fl_dp", algorithm="outside:UNPRICED")
    plain = dataclasses.replace(
        ALGORITHMS.find("outside:UNPRICED"), training=Training.SGD
    )
    with pytest.raises(ValueError, match=r"names arm fl_dp.*give its entry price="):
        train(arm="fl_dp", algorithm=plain)
    priced = dataclasses.replace(plain, price=lambda terms, own: local_price(terms))
    with pytest.raises(ValueError, match="has no clip_norm, which arm fl_dp needs"):
        train(arm="fl_dp", algorithm=priced)
    elsewhere = dataclasses.replace(plain, arms=("fl", "fl_hee"))
    with pytest.raises(
        ValueError, match=r"names arm 'fl_hee' in arms.*none of central"
    ):
        train(arm="fl", algorithm=elsewhere)
    with pytest.raises(ValueError, match="is for arm fl or fl_dp, got fl_he"):
        train(arm="fl_he", algorithm="outside:SHRINKING")


@pytest.mark.parametrize(
    ("arm", "client"),
    [("fl", "outside:still"), ("local", "outside:still"), ("fl_dp", "outside:NOISY")],
)
def test_a_client_function_from_outside_runs(outside, train, arm, client):
    result = train(arm=arm, client=client, clients=1)
    assert moved(result) < 1e-6
    assert (result.epsilon is not None) is (arm == "fl_dp")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arm": "fl_dp", "client": "outside:still"}, "adds no noise"),
        ({"arm": "fl", "client": "dp_sgd"}, "makes no plan"),
        (
            {"arm": "fl_dp", "algorithm": "nbafl", "client": "outside:NOISY"},
            "makes no plan",
        ),
        (
            {"arm": "fl", "algorithm": "fedprox", "client": "outside:still"},
            "a client function of its own",
        ),
    ],
)
def test_client_functions_that_do_not_fit_are_refused(outside, train, values, message):
    with pytest.raises(ValueError, match=message):
        train(**values)


def test_client_level_algorithms_take_plain_client_functions(outside, train):
    result = train(arm="fl_dp", algorithm="dp_fedavg", client="outside:still")
    assert result.prepared.privacy.unit is Unit.CLIENT


def test_a_server_optimiser_from_outside_runs(outside, train):
    assert moved(train(arm="fl", server_optimizer="outside:standing")) == 0
    entry = SERVER_OPTIMIZERS.find("outside:standing")
    assert entry.summary == "Takes no step."


@pytest.mark.parametrize("registry", [ALGORITHMS, CLIENTS, SERVER_OPTIMIZERS])
def test_what_is_no_entry_is_refused(outside, registry):
    with pytest.raises(ValueError, match=f"{registry.kind}=outside:OUT.* no attribute"):
        registry.find("outside:OUT")
    with pytest.raises(ValueError, match="outside:__name__"):
        registry.find("outside:__name__")
