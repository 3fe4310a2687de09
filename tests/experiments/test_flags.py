import pytest

from experiments import flags
from experiments.config import (
    SETTINGS,
    OutputConfig,
    PrivacyConfig,
    SweepConfig,
    TrainConfig,
    TrainingConfig,
)

COMMON = (*SETTINGS, OutputConfig)


def parse(what, *argv):
    return flags.parse("usage", (what, *COMMON), ["command", *argv])


def test_defaults_and_given_values():
    parsed = parse(SweepConfig, "--clients=2,3", "--epsilon=1.5", "--quick")
    sweep = parsed[SweepConfig]
    assert sweep.clients == (2, 3)
    assert sweep.partitions == ("iid", "shards")
    assert sweep.quick
    assert parsed[PrivacyConfig].epsilon == 1.5
    assert parsed[PrivacyConfig].noise_multiplier is None
    assert parsed.given == {"clients", "epsilon", "quick"}


def test_a_flagfile_is_read(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--arm=fl\n--learning_rate=0.25\n")
    parsed = parse(TrainConfig, f"--flagfile={file}", "--clients=6")
    assert parsed[TrainConfig].arm == "fl"
    assert parsed[TrainConfig].clients == 6
    assert parsed[TrainingConfig].learning_rate == 0.25


def test_help_is_short_grouped_and_exits_with_zero(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(TrainConfig, "--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 100
    assert all(len(line) <= 88 for line in text.splitlines())
    for group in ("What to run.", "Data.", "Privacy.", "Encryption.", "Output."):
        assert f"\n{group}" in text
    for name in ("learning_rate", "noise", "honest_clients", "key_holder"):
        assert f"--{name} " in text


# What is typed, and what the one sentence must name.
SWEEP_MISTAKES = [
    ("--arms=fl,magic", "magic"),
    ("--arms=fl,fl", "twice"),
    ("--arms=", "unknown"),
    ("--clients=0", "--clients must be at least 1"),
    ("--clients=4,x", "whole numbers separated by commas"),
    ("--clients=4.5", "whole numbers"),
    ("--clients=4,4", "twice"),
    ("--partitions=iid,random", "random"),
    ("--seeds=0", "--seeds must be at least 1"),
    ("--seeds=three", "a whole number"),
    ("--model=resnet", "tutorial_cnn"),
    ("--rounds=0", "--rounds"),
    ("--batch_size=-1", "--batch_size"),
    ("--learning_rate=0", "--learning_rate"),
    ("--learning_rate=fast", "a number"),
    ("--learning_rate=nan", "--learning_rate"),
    ("--momentum=1", "--momentum"),
    ("--server_optimizer=lion", "--server_optimizer"),
    ("--backend=pmap", "--backend"),
    ("--alpha=0", "--alpha"),
    ("--classes_per_client=0", "--classes_per_client"),
    ("--size_skew=-1", "--size_skew"),
    ("--epsilon=0", "--epsilon"),
    ("--epsilon=-2", "--epsilon"),
    ("--epsilon=inf", "--epsilon"),
    ("--delta=0", "--delta"),
    ("--delta=1", "--delta"),
    ("--epsilon=2 --noise_multiplier=1", "not both"),
    ("--local_epochs=2 --local_steps=3", "not both"),
    ("--noise_multiplier=-1", "--noise_multiplier"),
    ("--clip_norm=0", "--clip_norm"),
    ("--sampling_probability=1.5", "--sampling_probability"),
    ("--noise=loud", "--noise takes local, distributed"),
    ("--honest_clients=0", "--honest_clients"),
    ("--epsilon_against=everyone", "--epsilon_against takes outsiders, insiders"),
    ("--averaging=1", "--averaging"),
    ("--drop_out=1", "--drop_out"),
    ("--min_uploads=0", "--min_uploads"),
    ("--key_holder=nobody", "--key_holder takes authority, clients"),
    ("--key_holder=clients --encryption=threshold_exact", "no single key"),
    ("--noprotect --encryption=exact", "no unprotected mode"),
    ("--quantization_bits=25", "--quantization_bits"),
    ("--encryption=rot13", "--encryption"),
    ("--colour=red", "colour"),
    ("4", "--name=value"),
]


@pytest.mark.parametrize(("typed", "named"), SWEEP_MISTAKES)
def test_bad_input_is_one_sentence_and_exit_status_two(typed, named, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(SweepConfig, *typed.split())
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert named in line


@pytest.mark.parametrize(
    ("typed", "named"),
    [("--arm=magic", "--arm"), ("--clients=0", "--clients"), ("--seed=-1", "--seed")],
)
def test_bad_input_to_train(typed, named, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(TrainConfig, typed)
    assert exit_.value.code == 2
    assert named in capsys.readouterr().err
