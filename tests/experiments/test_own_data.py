"""Data of the user's own from the command line: a table divided by hospital."""

import numpy as np
import pytest

from experiments.train import train
from fedjax_private import runs
from fedjax_private.datasets import SOURCES
from fedjax_private.runs import read_rows
from tests.experiments.commands import last

COLUMNS = (
    "--label=outcome",
    "--client_column=hospital",
    "--ignore=id",
    "--ranges=age=18:100",
    "--categories=sex=f|m",
)


@pytest.fixture
def table(tmp_path):
    """Records whose outcome follows from the age, of four unequal hospitals."""
    rng = np.random.default_rng(0)
    lines = ["id,age,sex,hospital,outcome"]
    for i in range(240):
        age, hospital = rng.integers(20, 95), "ABBCCCDDDD"[i % 10]
        outcome = "ill" if age > 57 else "well"
        lines.append(f"{i},{age},{'fm'[i % 2]},{hospital},{outcome}")
    path = tmp_path / "wards.csv"
    path.write_text("\n".join(lines))
    return path


def command(out, *flags):
    usual = ("--arm=fl", "--model=linear", "--rounds=8", "--learning_rate=0.5")
    return last("train", *usual, *flags, f"--out={out}")


def test_a_table_is_divided_by_hospital(table, tmp_path, capsys):
    out = tmp_path / "run"
    flags = (f"--dataset=csv:{table}", *COLUMNS, "--partition=natural")
    assert train(command(out, *flags)) == 0
    searched = f"--dataset=csv:{table} --label=outcome --client_column=hospital "
    searched += "--ranges=age=18:100 --categories='sex=f|m' --ignore=id --model=linear"
    assert searched in capsys.readouterr().out
    (row,) = read_rows(out / "runs.jsonl")
    assert (row["clients"], row["partition"]) == (4, "natural")
    assert row["dataset"] == f"csv:{table}" and row["accuracy"] > 0.85
    assert (row["label"], row["categories"]) == ("outcome", "sex=f|m")
    assert row["client_accuracy_worst_tenth"] <= row["client_accuracy_mean"] < 1.01
    loaded = runs.load(out)
    assert loaded.name == "fl-4-natural-0"
    assert loaded.class_names == ("ill", "well")
    again = loaded.load_dataset()
    assert again.client_names == ("A", "B", "C", "D")
    logits = loaded.predict(again.test.inputs)
    accuracy = (logits.argmax(axis=1) == again.test.labels).mean()
    assert accuracy == pytest.approx(row["accuracy"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--partition=natural",), "give --client_column with csv:FILE"),
        (("--label=outcome",), "--label has no effect: it is a setting of dataset csv"),
        (("--dataset=csv:{}", "--data_dir=x"), "--data_dir has no effect: it is a set"),
        (("--dataset=csv:{}",), "give --label=COLUMN, one of id, age, sex, hospital"),
        (
            ("--dataset=csv:{}", *COLUMNS, "--test_fraction=2"),
            "--test_fraction must lie in (0, 1), got 2.0",
        ),
        (
            ("--dataset=csv:{}", *COLUMNS[:4]),
            "give --ranges='sex=LOW:HIGH' with public bounds for numbers ('*=raw' "
            "takes all as they are), --categories='sex=A|B' for text, or --ignore=sex.",
        ),
        (
            ("--dataset=csv:{}", *COLUMNS, "--partition=natural", "--clients=3"),
            "--clients=3 and the data name 4: leave out --clients, or choose another",
        ),
        (
            ("--dataset=csv:{}", *COLUMNS, "--model=tutorial_cnn"),
            "tutorial_cnn takes images (H, W, C), and the inputs have shape (3,): ",
        ),
        (("--dataset=folder:/nowhere",), "folder:/nowhere names no directory"),
        (("--dataset=npz:{}",), "is no NumPy archive: write it by numpy.savez"),
    ],
)
def test_what_does_not_fit_ends_before_any_training(
    flags, sentence, table, tmp_path, capsys
):
    with pytest.raises(SystemExit) as exit_:
        train(command(tmp_path / "run", *(flag.format(table) for flag in flags)))
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not (tmp_path / "run").exists()


def test_help_names_the_forms_of_data_sets(capsys):
    with pytest.raises(SystemExit):
        train(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(SOURCES)}, or module:attribute" in shown
    assert "--client_column column that names the client (csv:FILE)" in shown
    assert (
        "--split_seed of the draw of the test set (default 0) (csv:FILE, fold" in shown
    )


def test_settings_of_an_own_source_are_flags(tmp_path, monkeypatch):
    (tmp_path / "own_source.py").write_text(
        """
import dataclasses

import numpy as np

from fedjax_private.choices import Settings, at_least, setting
from fedjax_private.datasets import Source, from_arrays


@dataclasses.dataclass(frozen=True)
class Sized(Settings):
    examples: int = setting(8, "how many", at_least(2))


def made(name, settings):
    numbers = np.arange(settings.examples)
    inputs = np.stack([numbers, numbers], axis=1) / 10
    return from_arrays(name, inputs, numbers % 2, inputs, numbers % 2)


NUMBERS = Source("numbers", "two columns", made, Sized)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    flags = ("--dataset=own_source:NUMBERS", "--examples=12", "--clients=2")
    assert train(command(out, *flags)) == 0
    (row,) = read_rows(out / "runs.jsonl")
    assert (row["dataset"], row["train_examples"]) == ("own_source:NUMBERS", 12)
    assert runs.load(out).spec["dataset"] == {
        "name": "own_source:NUMBERS",
        "examples": 12,
    }
