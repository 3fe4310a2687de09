"""The command line: prices, calibrates, draws, and complains in one sentence."""

import subprocess
import sys

import pytest

from fedjax_private.privacy.accounting import (
    Gaussian,
    Neighbors,
    Poisson,
    RdpAccountant,
)
from fedjax_private.privacy.accounting.__main__ import main

RUN = ["--sampling_probability=250/60000", "--steps=720", "--delta=1e-5"]


def lines(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


def exact(sigma, neighbors=Neighbors.ADD_REMOVE):
    books = RdpAccountant(neighbors=neighbors)
    return books.compose(Poisson(250 / 60000, Gaussian(sigma)), 720).spent(1e-5).epsilon


def test_prints_epsilon_and_order(capsys):
    assert main(["--noise_multiplier=1.3", *RUN]) == 0
    told = lines(capsys.readouterr().out)
    assert exact(1.3) <= float(told["epsilon"]) <= exact(1.3) + 1e-4
    assert float(told["order"]) == pytest.approx(18, abs=0.5)
    assert told["neighbors"] == "add_remove"


@pytest.mark.parametrize("neighbors", list(Neighbors))
def test_calibrates(capsys, neighbors):
    assert main(["--target_epsilon=2", f"--neighbors={neighbors.value}", *RUN]) == 0
    told = lines(capsys.readouterr().out)
    sigma = float(told["noise_multiplier"])
    assert exact(sigma, neighbors) == pytest.approx(2, rel=2e-3)
    assert float(told["epsilon"]) <= 2.0


def test_infinite_epsilon(capsys):
    assert main(["--noise_multiplier=0", *RUN]) == 0
    assert lines(capsys.readouterr().out)["epsilon"] == "inf"


def test_draws_a_curve(tmp_path, capsys):
    file = tmp_path / "curve.png"
    assert main(["--noise_multiplier=1.3", *RUN, f"--plot={file}"]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert str(file) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (RUN, "either"),
        (["--noise_multiplier=1", "--target_epsilon=1", *RUN], "either"),
        (["--noise_multiplier=-1", *RUN], "noise_multiplier"),
        (["--noise_multiplier=nan", *RUN], "noise_multiplier"),
        (["--noise_multiplier=1", *RUN, "--delta=2"], "delta"),
        (["--noise_multiplier=1", *RUN, "--steps=1.5"], "steps"),
        (["--noise_multiplier=1", *RUN, "--steps=0"], "steps"),
        (["--noise_multiplier=1", *RUN, "--sampling_probability=3/2"], "sampling"),
        (["--noise_multiplier=1", *RUN, "--sampling_probability=1/0"], "sampling"),
        (["--noise_multiplier=1", *RUN, "--neighbors=all"], "replace_one"),
        (["--noise_multiplier=1", "--steps=1"], "required"),
        (["--noise_multiplier=1", *RUN, "--unknown=1"], "unknown"),
        (["--noise_multiplier=1", *RUN, "--plot=/nowhere/at/all.png"], "nowhere"),
        (["--noise_multiplier=1", *RUN, "--plot=curve.nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, word, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert word in complaint


def test_help_and_the_module_itself():
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    output = subprocess.run(
        [
            sys.executable,
            "-m",
            "fedjax_private.privacy.accounting",
            "--noise_multiplier=1.3",
            *RUN,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert lines(output.stdout)["epsilon"].startswith("0.55")
