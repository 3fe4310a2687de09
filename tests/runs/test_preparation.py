import dataclasses

import numpy as np
import pytest

from fedjax_private import aggregation, models, runs
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.datasets import PARTITIONS
from tests.runs.small import CLASSES, FEATURES, spec


def test_a_prepared_run_says_what_it_will_do(prepare):
    run = prepare(arm="fl", partition="shards", clients=4, rounds=5, cohort=3)
    assert run.parameters == FEATURES * CLASSES + CLASSES
    assert run.size == run.parameters + 1
    assert run.data.mask.shape[0] == run.clients == 4
    assert run.data.mask.sum() == 240
    assert [len(cohort) for cohort in run.schedule] == [3] * 5
    assert (run.scheme.name, run.trust.uploads, run.sums) == ("none", 1, None)
    assert run.privacy is None and not run.noises_steps
    assert (run.model_name, run.algorithm.name) == ("linear", "fedavg")


@pytest.mark.parametrize("arm", ["centralized", "centralized_dp"])
def test_pooled_data_are_one_client_s(arm, prepare, blobs):
    run = prepare(arm=arm)
    assert run.clients == 1
    assert [cohort.tolist() for cohort in run.schedule] == [[0], [0]]
    assert run.data.mask.sum() == len(blobs.train)
    assert run.scheme is run.trust is run.sums is None
    if run.privacy:
        assert run.privacy.epsilon_insider is None


@pytest.fixture
def wards(blobs):
    """The blobs of three named clients, of whom the second has no test examples."""
    owners = np.repeat([0, 1, 2], [100, 60, 80])
    train = dataclasses.replace(blobs.train, clients=owners)
    tested = np.arange(len(blobs.test)) % 2 * 2
    tested[0] = 5  # named by a test example alone
    test = dataclasses.replace(blobs.test, clients=tested)
    names = tuple("abcdef")
    return dataclasses.replace(blobs, train=train, test=test, client_names=names)


def test_as_many_clients_as_the_data_name(wards):
    asked = spec(partition="natural", clients=None)
    run = runs.prepare(asked, wards)
    assert run.spec.clients == run.clients == 3
    assert run.spec.name == "fl-3-natural-0"
    assert run.data.mask.sum(axis=1).tolist() == [100, 60, 80]
    assert run.test_owners[:4].tolist() == [-1, 2, 0, 2]
    assert run.client_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="clients=4 and the data name 3: leave out"):
        runs.prepare(spec(partition="natural", clients=4), wards)


def test_four_clients_where_the_data_name_none_or_are_mixed(wards, blobs):
    for dataset in (wards, blobs):
        run = runs.prepare(spec(clients=None), dataset)
        assert run.spec.clients == run.clients == run.spec.cohort_size == 4
        assert run.test_owners is run.client_names is None
    with pytest.raises(ValueError, match="partition=natural needs data that name"):
        runs.prepare(spec(partition="natural", clients=None), blobs)


def test_shards_depend_on_the_seed_and_the_partition_s_settings(prepare):
    def sizes(**settings):
        return prepare(**settings).data.mask.sum(axis=1).tolist()

    uneven = PARTITIONS.choose("iid", {"size_skew": 1.0})
    assert sizes() == [80, 80, 80]
    assert sizes(partition=uneven) == sizes(partition=uneven) != sizes()
    assert sizes(partition=uneven, seed=1) != sizes(partition=uneven)


@pytest.mark.needs_openfhe
def test_encrypted_sums_are_told_in_words(prepare):
    assert "CKKS" in prepare(arm="fl_he").sums
    scheme = aggregation.SCHEMES.choose("exact", {"key_holder": "clients"})
    assert "BASELINE" in prepare(arm="fl_he", encryption=scheme).sums
    assert prepare(arm="fl_he", encryption="none").sums is None


def test_a_ready_model_takes_the_place_of_the_spec_s(blobs):
    model = models.for_dataset("mlp_2nn", blobs)
    run = runs.prepare(spec(), blobs, model)
    assert run.model is model
    assert run.parameters > FEATURES * CLASSES + CLASSES


REFUSED = [
    ({"cohort": 4}, "cohort must lie between 1 and the 3 clients"),
    ({"clients": 241}, "clients=241 is more than the 240 training examples"),
    ({"algorithm": "scaffold", "momentum": 0.9}, "momentum=0"),
    (
        {"algorithm": "scaffold", "drop_out": 0.1},
        "algorithm=scaffold counts on every upload.*leave out drop_out",
    ),
    (
        {"arm": "fl_dp", "algorithm": "dp_fedavg", "cohort": 2},
        "draws each round's clients itself.*leave out cohort",
    ),
    (
        {"algorithm": "fedprox", "client": "sgd"},
        "client has no effect: algorithm=fedprox has a client function of its own",
    ),
    (
        {"arm": "fl_dp", "client": "sgd"},
        "client=sgd adds no noise, which arm fl_dp needs",
    ),
    (
        {"client": "dp_sgd"},
        "client=dp_sgd noises its steps, and algorithm=fedavg in arm fl makes no plan",
    ),
    (
        {"model": "polynomial_cnn"},
        r"model polynomial_cnn takes images \(H, W, C\), and the inputs have shape "
        r"\(6,\): give model=linear or model=mlp_2nn\.",
    ),
    (
        {"arm": "fl_dp", "noise": "distributed"},
        "give arm=private_ai or leave out noise",
    ),
    (
        {"arm": "private_ai", "local_steps": 2},
        "local_steps has no effect: clients that share noise take one step a round",
    ),
]


@pytest.mark.parametrize(("settings", "named"), REFUSED)
def test_what_does_not_go_together_is_one_sentence_about_arguments(
    settings, named, prepare
):
    with pytest.raises(ValueError, match=named) as raised:
        prepare(**settings)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize(
    "algorithm", [e.name for e in ALGORITHMS.entries() if not e.tolerates_loss]
)
def test_algorithms_that_need_every_upload_say_so(algorithm, prepare):
    arm = ALGORITHMS.find(algorithm).arms[0]
    assert prepare(arm=arm, algorithm=algorithm).algorithm.name == algorithm
    with pytest.raises(ValueError, match=f"algorithm={algorithm} counts on every"):
        prepare(arm=arm, algorithm=algorithm, drop_out=0.5)


def test_lost_uploads_and_cohorts_are_fine_elsewhere(prepare):
    run = prepare(arm="fl", drop_out=0.3, cohort=2, min_uploads=1)
    assert run.trust.uploads == 1


def test_a_client_function_is_chosen_by_name_or_as_an_entry(prepare):
    assert prepare(client="sgd").spec.client.name == "sgd"
    entry = dataclasses.replace(CLIENTS.find("dp_sgd"), name="mine")
    assert prepare(arm="fl_dp", client=entry).noises_steps


@pytest.mark.parametrize("arm", ["fl_dp", "private_ai_local"])
def test_the_busiest_client_s_steps_are_priced(arm, prepare):
    run = prepare(arm=arm, rounds=4, local_steps=3, cohort=2)
    rounds = np.bincount(np.concatenate(run.schedule)).max()
    assert run.privacy.steps == 3 * rounds
    assert run.privacy.steps_per_round == 3
