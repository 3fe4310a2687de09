import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private import clients
from fedjax_private.clients import Trainer, TrainState
from fedjax_private.datasets import ClientData
from fedjax_private.privacy import BandedNoise, CyclicPoissonSampling, shared
from fedjax_private.trust import Decryptor, Trust
from tests.clients.regression import COUNTS, DATA, PARAMS, PLAN, keys_of, loss, run


def moving(state, data, keys):
    """Moves every weight by 2, and counts its rounds in the mechanism's state."""
    params = jax.tree.map(lambda leaf: leaf + 2, state.params)
    moved = state._replace(params=params, mechanism=state.mechanism + 1)
    return moved, {"loss": jnp.float32(1)}


TRAINER = Trainer(lambda params: TrainState(params, (), jnp.int32(0)), moving)
SHARD = ClientData(DATA.inputs[1], DATA.labels[1], DATA.mask[1])


def test_a_federated_client_gives_away_its_weighted_difference():
    client = clients.federated(TRAINER, clients.by_examples(8.0))
    output, kept = client(PARAMS, jnp.int32(3), SHARD, keys_of(1))
    assert float(output.update["weight"]) == COUNTS[1] / 8
    np.testing.assert_allclose(output.update["delta"]["w"], [1.0, 1.0], rtol=1e-6)
    assert output.metrics == {"loss": 1.0}
    assert kept == 4
    assert clients.kept(TRAINER)(PARAMS) == 0


@pytest.mark.parametrize("weight", [clients.equally(4), clients.by_examples(16.0)])
def test_weights(weight):
    assert float(weight(SHARD)) == 1 / 4


def test_private_clients_give_away_nothing_but_the_update():
    trainer = clients.dp_sgd(loss, clients.DpSgdConfig(0.05, steps=2), PLAN)
    output = run(clients.federated(trainer, clients.equally(3)))
    assert output.metrics == {}
    np.testing.assert_allclose(output.update["weight"], 1 / 3, rtol=1e-6)


def test_clients_that_share_noise_give_away_slots_alone():
    trust = Trust(3, Decryptor.KEY_AUTHORITY)
    plan = shared(lambda noise: PLAN, 1.1, trust)
    output = run(clients.sharing_noise(loss, plan))
    assert output.metrics == {}
    assert output.update.shape == (3, 3)


SGD_TRAINER = clients.sgd(loss, clients.SgdConfig(0.05))
PRIVATE = clients.dp_sgd(loss, clients.DpSgdConfig(0.05), PLAN)
BANDED = dataclasses.replace(
    PLAN, sampler=CyclicPoissonSampling(0.6, 2), noise=BandedNoise(1.0, (1.0, 0.5))
)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: clients.federated(TRAINER, clients.equally),
            r"weight must be clients.equally called .* such as clients.equally\(8\)",
        ),
        (
            lambda: clients.federated(TRAINER, clients.by_examples),
            r"such as clients.by_examples\(4000\)",
        ),
        (lambda: clients.federated(TRAINER, 0.25), r"weight must be a function.*0.25"),
        (
            lambda: clients.federated(PRIVATE, clients.by_examples(29)),
            "weight must not depend on the records of a private trainer.*equally",
        ),
        (
            lambda: clients.federated(loss, lambda data: 1.0),
            "trainer must be a Tr.*loss",
        ),
        (lambda: clients.kept("sgd"), "trainer must be a Trainer.*got 'sgd'"),
        (lambda: clients.equally(0), "cohort must be .*number, got 0"),
        (lambda: clients.equally(SHARD), "cohort must be .*number, got ClientData"),
        (lambda: clients.by_examples(0), "normaliser must be positive and finite"),
        (lambda: clients.by_examples("all"), "normaliser must be a number, got 'all'"),
        (
            lambda: clients.sharing_noise(loss, PLAN),
            "must be a SharedPlan.*PrivacyPlan",
        ),
        (lambda: clients.sgd(loss, 0.1), "config must be an SgdConfig.*got 0.1"),
        (lambda: clients.sgd("sgd", clients.SgdConfig(0.1)), "loss must be a function"),
        (
            lambda: clients.sgd(lambda p: 0.0, clients.SgdConfig(0.1)),
            "too many positio",
        ),
        (lambda: clients.SgdConfig("fast"), "learning_rate must be a number"),
        (
            lambda: clients.dp_sgd(loss, clients.SgdConfig(0.1), PLAN),
            "config must be a DpSgdConfig.*got SgdConfig",
        ),
        (
            lambda: clients.dp_sgd(loss, clients.DpSgdConfig(0.1), 1.1),
            "plan must be a PrivacyPlan.*got 1.1",
        ),
        (
            lambda: Trainer(lambda params: params, lambda state, data: state),
            r"train must be a function \(state, shard, keys\).*too many",
        ),
        (
            lambda: PRIVATE.train(PARAMS, SHARD, keys_of(1)),
            r"state must be a TrainState, as trainer.init\(params\) returns, got dict",
        ),
        (
            lambda: SGD_TRAINER.train(SGD_TRAINER.init(PARAMS), DATA, keys_of(1)),
            r"take\(0\) returns, got a mask of shape \(3, 16\)",
        ),
        (
            lambda: SGD_TRAINER.train(SGD_TRAINER.init(PARAMS), [1, 2], keys_of(1)),
            "data must be the shard of one client.*got list",
        ),
        (
            lambda: clients.federated(TRAINER, lambda data: 1.0)(PARAMS, 3, SHARD, 0),
            r"keys must be ClientKeys\(sampling, noise\).*got 0",
        ),
        (
            lambda: clients.federated(
                clients.dp_sgd(loss, clients.DpSgdConfig(0.1), BANDED),
                clients.equally(3),
            )(PARAMS, (), SHARD, keys_of(1)),
            r"state is not that of its .*init_client=clients.kept\(trainer\)",
        ),
        (
            lambda: clients.federated(PRIVATE, lambda data: data.mask.mean())(
                PARAMS, (), SHARD, keys_of(1)
            ),
            "weight must not depend on the records of a private trainer",
        ),
    ],
)
def test_arguments_of_another_kind_are_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_private_trainer_may_have_a_public_weight_of_one_s_own():
    client = clients.federated(PRIVATE, lambda data: 2.0 / data.mask.size)
    output, _ = client(PARAMS, (), SHARD, keys_of(1))
    assert float(output.update["weight"]) == 2.0 / 16
