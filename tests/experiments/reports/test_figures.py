import numpy as np
import pytest

from experiments.reports import figures
from experiments.reports.averages import cells
from fedjax_private.runs import ARMS
from tests.experiments.reports.made_up import row


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


def test_every_arm_has_a_style_of_its_own():
    assert set(figures.STYLES) == set(ARMS)
    drawn = {tuple(sorted(style.items())) for style in figures.STYLES.values()}
    assert len(drawn) == len(ARMS)


def test_accuracy_against_clients(tmp_path):
    rows = [
        row(arm, clients, seed, 0.8 + seed / 50, partition=partition)
        for arm in ARMS
        for clients in (4, 8)
        for seed in (0, 1)
        for partition in ("iid", "my:parts")
    ]
    rows.append(row("fl", 16, 0, None))  # diverged
    figures.draw(tmp_path / "figure.png", rows)
    assert is_png(tmp_path / "figure.png")


def test_accuracy_against_epsilon(tmp_path):
    curves = {
        arm: cells([row(arm, 8, 0, 0.9, epsilon=epsilon) for epsilon in (0.5, 2.9)])
        for arm in ("centralized_dp", "private_ai")
    }
    figures.accuracy_against_epsilon(tmp_path / "figure.png", curves)
    assert is_png(tmp_path / "figure.png")


def test_the_cost_of_encryption(tmp_path):
    line = cells([row("private_ai", clients) for clients in (4, 8)])
    figures.encryption_cost(tmp_path / "figure.png", line)
    assert is_png(tmp_path / "figure.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prediction(channels, tmp_path):
    image = np.arange(8 * 8 * channels, dtype=np.uint8).reshape(8, 8, channels)
    path = tmp_path / "figure.png"
    figures.prediction(path, image, np.array([0.1, -2.0, 3.0]), ("0", "1", "2"))
    assert is_png(path)
