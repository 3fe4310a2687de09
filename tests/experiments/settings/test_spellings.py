"""Sentences with flags as the user types them."""

import pytest

from experiments.settings.spellings import spelled
from tests.experiments.settings.test_flags import parse_sweep, parse_train, refused


@pytest.mark.parametrize(
    ("parse", "typed", "told"),
    [
        (parse_sweep, "--arm=fl", "another command: here it is --arms."),
        (parse_sweep, "--partition=iid", "here it is --partitions."),
        (parse_sweep, "--seed=1", "here it is --seeds, a count: --seeds=3 takes"),
        (parse_sweep, "--seeds=1,2", "got '1,2': it is a count: --seeds=3 takes"),
        (parse_train, "--arms=fl", "--arms is a flag of another command: here it is"),
    ],
)
def test_what_another_command_spells_otherwise_is_named(parse, typed, told, capsys):
    assert told in refused(capsys, parse, typed)


# The library's sentences, and how a command says them.
SPELLED = [
    (
        "learning_rate must be positive and finite, got 0.0.",
        "--learning_rate must be positive and finite, got 0.0.",
    ),
    ("seed must be at least 0, got -1.", "--seed must be at least 0, got -1."),
    ("epsilon must be above 0, got 0.", "--epsilon must be above 0, got 0."),
    (
        "give epsilon or noise_multiplier, not both.",
        "give --epsilon or --noise_multiplier, not both.",
    ),
    (
        "encryption=none lets the server read every share of private_ai's noise: give "
        "noise=local or another encryption.",
        "--encryption=none lets the server read every share of private_ai's noise: "
        "give --noise=local or another --encryption.",
    ),
    (
        "protect=False lets released sums reveal the key, which hides every share of "
        "the noise: leave it out, or give noise=local.",
        "--noprotect lets released sums reveal the key, which hides every share of "
        "the noise: leave it out, or give --noise=local.",
    ),
    (
        "out=runs/mine already holds a run: name another directory, or pass "
        "overwrite=True.",
        "--out=runs/mine already holds a run: name another directory, or pass "
        "--overwrite.",
    ),
    (
        "mechanism=banded correlates noise over rounds, so every client must take part "
        "in each of them: leave out cohort and drop_out.",
        "--mechanism=banded correlates noise over rounds, so every client must take "
        "part in each of them: leave out --cohort and --drop_out.",
    ),
    (
        "client has no effect: algorithm=fedprox has a client function of its own; "
        "leave it out.",
        "--client has no effect: --algorithm=fedprox has a client function of its "
        "own; leave it out.",
    ),
    (
        "augmentations has no effect: model linear does not see images; choose another "
        "model, or leave it out.",
        "--augmentations has no effect: model linear does not see images; choose "
        "another --model, or leave it out.",
    ),
    (
        "epsilon has no effect: arm fl adds no noise; choose arm fl_dp, or leave it "
        "out.",
        "--epsilon has no effect: arm fl adds no noise; choose arm fl_dp, or leave it "
        "out.",
    ),
    (
        "epsilon_against=insiders cannot be met where insiders read uploads (clients "
        "decrypt, 3 of 8 clients are honest): choose another encryption, or raise "
        "honest_clients or recovery_threshold.",
        "--epsilon_against=insiders cannot be met where insiders read uploads (clients "
        "decrypt, 3 of 8 clients are honest): choose another --encryption, or raise "
        "--honest_clients or --recovery_threshold.",
    ),
    (
        "exact sums carry integer noise, and BandedNoise is not: use encryption=ckks "
        "or encryption=threshold_ckks.",
        "exact sums carry integer noise, and BandedNoise is not: use --encryption=ckks "
        "or --encryption=threshold_ckks.",
    ),
    (
        "mechanism=my:fork is for neighbors=replace, not for the run's add_remove.",
        "--mechanism=my:fork is for neighbors=replace, not for the run's add_remove.",
    ),
    (
        "clients=4001 is more than the 4000 training examples, so some clients would "
        "hold none; choose at most 4000, or a larger data set.",
        "--clients=4001 is more than the 4000 training examples, so some clients would "
        "hold none; choose at most 4000, or a larger data set.",
    ),
    (
        "partition 'random' is unknown: choose one of iid, shards, dirichlet, or your "
        "own as module:attribute.",
        "--partition 'random' is unknown: choose one of iid, shards, dirichlet, or "
        "your own as module:attribute.",
    ),
]

# No argument is meant, whatever the words.
ORDINARY = [
    "the world, the server and all other clients together",
    "a sum of 3 uploads is not released: it must hold at least 4.",
    "a sum needs at least one upload, got 0.",
    "clients need at least one process, and each at least one worker; got 0 and 1.",
    "client 3: the vector has an entry that is not finite, which cannot be encrypted; "
    "the training has probably diverged.",
    "client 2 of this chunk: its result is not finite.",
    "the recovery threshold must be more than half of the 8 holders, more than the 2 "
    "that may collude, and at most all of them; got 3.",
    "the run has 3 models, one of each client: take one of `models`.",
    "model resnet must return logits (B, 10), got (2, 3) for a batch of 2.",
    "client data needs at least one client, got no parts.",
    "the algorithm counts on every upload of its clients, and `dropped` loses some: it "
    "would train wrongly.",
    "partition my:parts gives client 3 positions from -1 to 9, outside 0..9.",
    "OpenFHE chose a ring of dimension 4096: install the version that pyproject.toml "
    "names.",
    "no ciphertext of ckks at 128 bits of security holds sums of 9 vectors: use a "
    "smaller value bound, a coarser precision or fewer clients.",
    "dataset my:data must be a Dataset, got list.",
    "/data/clients=3/model.json is damaged: train again.",
    "noise needs float32 or wider, got int32.",
    "rounds are measured one by one, and noise adds up.",
]


@pytest.fixture(scope="module")
def names():
    return parse_train().names


@pytest.mark.parametrize(("sentence", "expected"), SPELLED)
def test_arguments_are_spelled_as_flags(sentence, expected, names):
    assert spelled(sentence, names) == expected
    assert spelled(expected, names) == expected  # once is enough


@pytest.mark.parametrize("sentence", ORDINARY)
def test_ordinary_words_are_left_alone(sentence, names):
    assert spelled(sentence, names) == sentence


def test_what_is_no_flag_of_a_command_is_left_alone():
    sentence = "arm=fl_dp encrypts nothing: give arm=private_ai or noise=local."
    assert spelled(sentence, parse_sweep().names) == (
        "arm=fl_dp encrypts nothing: give arm=private_ai or --noise=local."
    )
