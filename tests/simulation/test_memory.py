"""Memory of large simulations, each in a process of its own that reports its peak."""

import os
import subprocess
from pathlib import Path

import pytest

from fedjax_private.encryption.openfhe.backend import interpreter

SCRIPT = Path(__file__).parent / "simulate_many.py"


def peak_gigabytes(*arguments):
    """The peak resident memory of one simulation, and what it printed."""
    finished = subprocess.run(
        [*interpreter(), str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    assert finished.returncode == 0, finished.stderr
    return float(finished.stdout.split()[-1])


@pytest.mark.slow
def test_ten_thousand_clients_fit_into_4_gigabytes():
    assert peak_gigabytes("linear", 10_000, 100, "plain") < 4


@pytest.mark.slow
def test_private_clients_of_a_large_model_fit_into_8_gigabytes():
    """32 clients of 1,663,370 parameters, every example clipped."""
    assert peak_gigabytes("fedavg_cnn", 32, 16, "private") < 8
