"""Flags from settings: reading, help, and bad input."""

import dataclasses
import textwrap

import pytest

from experiments.command import OutputConfig
from experiments.settings import flags
from experiments.sweep import SweepConfig
from experiments.tune import TuneConfig
from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.choices import Settings, setting


def parse_train(*argv):
    return flags.parse("usage", (runs.Spec, OutputConfig), ["command", *argv])


def parse_sweep(*argv):
    configs = (SweepConfig, runs.Spec, OutputConfig)
    left_out = ("arm", "partition", "seed")
    return flags.parse("usage", configs, ["command", *argv], leave_out=left_out)


def refused(capsys, parse, *argv):
    """The sentence of bad input."""
    with pytest.raises(SystemExit) as exit_:
        parse(*argv)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


class TestReading:
    def test_defaults_and_given_values(self):
        parsed = parse_sweep("--clients=2,3", "--epsilon=1.5", "--quick")
        sweep = parsed[SweepConfig]
        assert sweep.clients == (2, 3)
        assert [choice.name for choice in sweep.partitions] == ["iid", "shards"]
        assert sweep.quick
        assert parsed[runs.Spec].epsilon == 1.5
        assert parsed[runs.Spec].noise_multiplier is None
        assert parsed.given == {"clients", "epsilon", "quick"}
        assert parsed[OutputConfig] == OutputConfig()

    def test_a_command_line_without_flags_is_the_default_run(self):
        assert parse_train()[runs.Spec] == runs.Spec()

    def test_a_flagfile_that_is_not_there(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            parse_train(f"--flagfile={tmp_path}/none")
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: Unable to open flagfile: ")

    def test_a_flagfile_is_read(self, tmp_path):
        file = tmp_path / "flags"
        file.write_text("--arm=fl\n--learning_rate=0.25\n")
        spec = parse_train(f"--flagfile={file}", "--clients=6")[runs.Spec]
        assert (spec.arm, spec.clients, spec.learning_rate) == ("fl", 6, 0.25)

    @pytest.mark.parametrize(
        ("typed", "name"),
        [
            ("--clients=2 --clients=3", "clients"),
            ("--clients 2 --seed=1 -clients=2", "clients"),
            ("--arm=fl --overwrite --nooverwrite", "overwrite"),
            ("--partition=dirichlet --alpha=1 --alpha=2", "alpha"),
        ],
    )
    def test_flags_are_given_once(self, typed, name, capsys):
        wanted = f"error: --{name} is given more than once: give it once."
        assert refused(capsys, parse_train, *typed.split()) == wanted

    def test_lists_are_given_once_with_commas(self, capsys):
        said = refused(capsys, parse_sweep, "--clients=2", "--clients=3")
        assert said.endswith("once: give it once, with commas between its values.")

    def test_a_command_line_overrides_a_flagfile(self, tmp_path):
        file = tmp_path / "flags"
        file.write_text("--clients=2\n")
        for flagfile in ([f"--flagfile={file}"], ["--flagfile", str(file)]):
            spec = parse_train(*flagfile, "--clients=6")[runs.Spec]
            assert spec.clients == 6

    def test_booleans_are_given_and_taken_back(self):
        spec = parse_train("--noprotect")[runs.Spec]
        assert spec.scheme.settings.protect is False
        for text in ("--protect", "--protect=true"):
            assert parse_train(text)[runs.Spec].scheme.settings.protect is True
        assert parse_train("--overwrite")[OutputConfig].overwrite

    def test_values_may_stand_apart(self):
        spec = parse_train("--seed", "3", "--partition", "shards")[runs.Spec]
        assert (spec.seed, spec.partition_name) == (3, "shards")


class TestSettingsOfEntries:
    def test_they_are_flags(self):
        parsed = parse_train(
            "--partition=dirichlet",
            "--alpha=0.3",
            "--encryption=exact",
            "--quantization_bits=9",
            "--algorithm=fedprox",
            "--arm=fl_he",
            "--proximal=0.01",
        )
        spec = parsed[runs.Spec]
        assert spec.partition.settings.alpha == 0.3
        assert spec.scheme.settings.quantization_bits == 9
        assert spec.chosen_algorithm.settings.proximal == 0.01
        assert parsed.given >= {"alpha", "quantization_bits", "proximal"}

    def test_several_choices_of_one_kind_share_them(self):
        partitions = parse_sweep("--partitions=iid,dirichlet", "--size_skew=1")
        sizes = [c.settings.size_skew for c in partitions[SweepConfig].partitions]
        assert sizes == [1.0, 1.0]

    @pytest.mark.parametrize(
        ("typed", "named"),
        [
            ("--alpha=0.3", "--alpha has no effect: it is a setting of partition dir"),
            ("--proximal=1", "--proximal has no effect: it is a setting of algorithm"),
            ("--bands=3", "--bands has no effect: it is a setting of mechanism banded"),
            (
                "--quantization_bits=9",
                "--quantization_bits has no effect: it is a setting of encryption ex",
            ),
            ("--encryption=exact --precision=1e-3", "--precision has no effect"),
            ("--encryption=exact --noprotect", "--protect has no effect"),
            (
                "--encryption=threshold_exact --key_holder=clients",
                "--key_holder has no",
            ),
        ],
    )
    def test_those_of_an_entry_that_was_not_chosen_are_refused(
        self, typed, named, capsys
    ):
        assert named in refused(capsys, parse_train, *typed.split())

    def test_every_setting_of_every_scheme_is_a_flag(self, capsys):
        with pytest.raises(SystemExit):
            parse_train("--help")
        text = capsys.readouterr().out
        for entry in SCHEMES.entries():
            for field in dataclasses.fields(entry.settings):
                assert f"--{field.name} " in text


OWN = '''
import dataclasses

from fedjax_private.choices import Settings, at_least, setting
from fedjax_private.datasets import Partitioner


@dataclasses.dataclass(frozen=True)
class Most(Settings):
    """Of the partitioner."""

    most: int = setting(9, "records of a client", at_least(1))
    names: tuple[str, ...] = setting((), "of clients")
    fast: bool = setting(False, "whether it hurries")
    hidden: int = 3


CAPPED = Partitioner("capped", "few records a client", None, Most)


@dataclasses.dataclass(frozen=True)
class Clash(Settings):
    """Of the other partitioner."""

    seed: int = setting(0, "of its own")


CLASHING = dataclasses.replace(CAPPED, settings=Clash)
'''


class TestOwnEntries:
    @pytest.fixture
    def own(self, tmp_path, monkeypatch):
        (tmp_path / "own_parts.py").write_text(textwrap.dedent(OWN))
        monkeypatch.syspath_prepend(tmp_path)
        return "own_parts"

    @pytest.mark.parametrize(
        "typed",
        [
            "--partition={} --most=5 --names=a,b --fast",
            "--most=5 --names a,b --fast --seed 3 --partition={}",
            "--flagfile={file}",
        ],
    )
    def test_they_bring_their_flags_along(self, typed, own, tmp_path):
        file = tmp_path / "flags"
        file.write_text(f"--partition={own}:CAPPED\n--names=a,b\n--most=5\n--fast\n")
        argv = typed.format(f"{own}:CAPPED", file=file).split()
        settings = parse_train(*argv)[runs.Spec].partition.settings
        assert (settings.most, settings.names, settings.fast) == (5, ("a", "b"), True)
        assert settings.hidden == 3  # no help text, no flag

    def test_help_lists_them(self, own, capsys):
        with pytest.raises(SystemExit) as exit_:
            parse_train(f"--partition={own}:CAPPED", "--help")
        assert exit_.value.code == 0
        text = capsys.readouterr().out
        assert "--most " in text and f"({own}:CAPPED) [9]" in text
        assert "--hidden" not in text

    def test_in_a_list_too(self, own):
        sweep = parse_sweep(f"--partitions=iid,{own}:CAPPED", "--most=4")[SweepConfig]
        assert [choice.name for choice in sweep.partitions] == ["iid", f"{own}:CAPPED"]
        assert sweep.partitions[1].settings.most == 4

    @pytest.mark.parametrize(
        ("typed", "named"),
        [
            ("--most=5", "Unknown command line flag 'most'"),
            ("--partition={}:CAPPED --most=0", "--most must be at least 1, got 0"),
            ("--partition={}:CAPPED --most=x", "--most=x: takes a whole number"),
            ("--partition={}:CLASHING", "seed is a setting of partition and the name"),
            ("--partition={}:nothing", "--partition={}:nothing"),
            ("--partition=nowhere:f", "No module named 'nowhere'"),
        ],
    )
    def test_bad_ones_are_bad_input(self, typed, named, own, capsys):
        argv = typed.format(own).split()
        assert named.format(own) in refused(capsys, parse_train, *argv)


def test_help_is_grouped_and_exits_with_zero(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_train("--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 190
    assert all(len(line) <= 88 for line in text.splitlines())
    for group in (
        "What to run.",
        "Model and training",
        "Privacy, for arms with DP.",
        "Encryption, for arms with HE.",
        "Where results are written.",
        "Settings of partition.",
    ):
        assert f"\n{group}" in text
    for name in ("learning_rate", "noise", "honest_clients", "key_holder", "out"):
        assert f"\n  --{name} " in text


# What is typed, and what the one sentence must name.
SWEEP_MISTAKES = [
    ("--arms=fl,magic", "--arms names 'magic'"),
    ("--arms=fl,fl", "--arms names a value twice"),
    ("--arms=", "--arms"),
    ("--clients=0", "--clients must be at least 1"),
    ("--clients=4,x", "--clients=4,x: takes whole numbers separated by commas"),
    ("--clients=4.5", "whole numbers"),
    ("--clients=4,4", "twice"),
    ("--partitions=iid,random", "partition 'random' is unknown: choose one of iid"),
    ("--partitions=", "--partitions needs at least one value"),
    ("--seeds=0", "--seeds must be at least 1"),
    ("--seeds=three", "a whole number"),
    ("--model=resnet", "--model 'resnet' is unknown: choose one of tutorial_cnn"),
    ("--rounds=0", "--rounds"),
    ("--batch_size=-1", "--batch_size"),
    ("--learning_rate=0", "--learning_rate must be positive and finite, got 0.0"),
    ("--learning_rate=fast", "--learning_rate=fast: takes a number, got 'fast'"),
    ("--learning_rate=nan", "--learning_rate"),
    ("--momentum=1", "--momentum must"),
    ("--server_optimizer=lion", "--server_optimizer 'lion' is unknown"),
    ("--backend=pmap", "--backend must be one of auto"),
    ("--partitions=dirichlet --alpha=0", "--alpha must be positive"),
    ("--classes_per_client=0", "--classes_per_client must"),
    ("--size_skew=-1", "--size_skew must"),
    ("--epsilon=0", "--epsilon must"),
    ("--epsilon=inf", "--epsilon must"),
    ("--delta=0", "--delta must"),
    ("--delta=1", "--delta must"),
    ("--epsilon=2 --noise_multiplier=1", "give --epsilon or --noise_multiplier, not"),
    ("--local_epochs=2 --local_steps=3", "give --local_epochs or --local_steps, not"),
    ("--noise_multiplier=-1", "--noise_multiplier must"),
    ("--clip_norm=0", "--clip_norm"),
    ("--sampling_probability=1.5", "--sampling_probability"),
    ("--noise=loud", "--noise must be one of local, distributed"),
    ("--honest_clients=0", "--honest_clients"),
    ("--epsilon_against=everyone", "--epsilon_against must be one of outsiders, ins"),
    ("--averaging=1", "--averaging"),
    ("--drop_out=1", "--drop_out"),
    ("--min_uploads=0", "--min_uploads"),
    ("--key_holder=nobody", "--key_holder must be one of authority, clients"),
    ("--encryption=exact --quantization_bits=25", "--quantization_bits must lie"),
    ("--encryption=rot13", "--encryption 'rot13' is unknown"),
    ("--processes --topology=ring", "--topology must be star, got ring"),
    ("--colour=red", "colour"),
    ("--seed=1", "seed"),  # is no flag of a sweep
    ("4", "--name=value"),
]


@pytest.mark.parametrize(("typed", "named"), SWEEP_MISTAKES)
def test_bad_input_is_one_sentence_and_exit_status_two(typed, named, capsys):
    assert named in refused(capsys, parse_sweep, *typed.split())


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("--arm=magic", "--arm must be one of centralized"),
        ("--clients=0", "--clients must be at least 1"),
        ("--seed=-1", "--seed must be finite and not negative"),
        ("--algorithm=magic", "--algorithm 'magic' is unknown: choose one of local"),
        ("--mechanism=magic", "--mechanism 'magic' is unknown: choose one of gaussian"),
        ("--dataset", "dataset"),
    ],
)
def test_bad_input_to_train(typed, named, capsys):
    assert named in refused(capsys, parse_train, *typed.split())


def test_a_check_that_comes_later_is_bad_input_too(capsys):
    parsed = parse_train("--arm=fl", "--min_uploads=9")

    def check():
        return parsed[runs.Spec].trust

    line = refused(capsys, lambda: parsed.checked(check))
    assert line == (
        "error: --min_uploads must lie between 1 and the 4 clients of a round, got 9."
    )
    assert parsed.checked(lambda: 3) == 3


@dataclasses.dataclass(frozen=True)
class Kinds(Settings):
    """One field of each kind."""

    whole: int = setting(1, "a number")
    real: float | None = setting(None, "another")
    words: tuple[str, ...] = setting((), "several")
    counts: tuple[int, ...] = setting((1, 2), "several")
    yes: bool = setting(False, "either")
    quiet: int = 3


def test_flags_follow_from_fields():
    found = {flag.name: flag for flag in flags.flags_of(Kinds, leave_out=["whole"])}
    assert list(found) == ["real", "words", "counts", "yes"]
    assert found["real"].kind is float
    assert {flag.group for flag in found.values()} == {"One field of each kind"}
    parsed = flags.parse(
        "usage", (Kinds,), ["c", "--words=a, b", "--counts=3", "--yes"]
    )
    assert parsed[Kinds] == Kinds(words=("a", "b"), counts=(3,), yes=True)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (float, "1e-3", 1e-3),
        (str, "a,b", "a,b"),
        (tuple[int, ...], "3, 4", (3, 4)),
        (bool, "false", False),
        (bool, "True", True),
    ],
)
def test_texts_become_values(kind, text, value):
    assert flags.convert(kind, text) == value


@pytest.mark.parametrize(("kind", "text"), [(int, "3.5"), (bool, "no"), (float, "x")])
def test_other_texts_are_refused(kind, text):
    with pytest.raises(ValueError):
        flags.convert(kind, text)


def test_a_field_of_two_classes_is_one_flag():
    parsed = flags.parse(
        "usage", (TuneConfig, runs.Spec), ["c", "--arm=fl_dp", "--clients=4,8"]
    )
    assert parsed[TuneConfig].arm == "fl_dp"
    assert parsed[TuneConfig].clients == (4, 8)
    assert parsed[runs.Spec].clients == runs.Spec().clients
