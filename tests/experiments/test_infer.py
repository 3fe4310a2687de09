"""The command `infer`: a server in a process of its own, and clients."""

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from experiments.infer import infer, serve
from experiments.query import FIGURE, PREDICTIONS
from fedjax_private.datasets import load
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.inference.serving.access import make_token
from fedjax_private.inference.serving.head import Head
from tests.experiments import commands


def run(*argv):
    """Runs the command here; returns its exit status."""
    return infer(["infer", *map(str, argv)])


@pytest.fixture
def token_file(tmp_path):
    make_token(tmp_path / "token")
    return tmp_path / "token"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a short training run."""
    out = tmp_path_factory.mktemp("trained") / "run"
    done = subprocess.run(
        [
            *interpreter(),
            "-m",
            "experiments.train",
            "--arm=centralized",
            "--model=polynomial_cnn",
            "--rounds=2",
            f"--out={out}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


class Serving:
    """`infer serve` in a process of its own."""

    def __init__(self, trained, folder, *argv):
        self.token_file = folder / "token"
        self.process = subprocess.Popen(
            [
                *interpreter(),
                "-m",
                "experiments.infer",
                "serve",
                f"--model={trained}",
                "--port=0",
                f"--token_file={self.token_file}",
                *argv,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self.process.stdout.readline()
        assert self.ready.startswith(f"serving {trained} at http://127.0.0.1:")
        self.url = re.search(r"http://\S+", self.ready)[0]
        self.lines = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    @property
    def server(self):
        return f"--url={self.url}", f"--token_file={self.token_file}"

    def _read(self):
        self.lines.extend(self.process.stdout)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait()
        self._reading.join()
        return status


@pytest.fixture(scope="module")
def serving(trained, tmp_path_factory):
    started = Serving(trained, tmp_path_factory.mktemp("serve"), "--packing=single")
    yield started
    started.process.kill()


@pytest.fixture(scope="module")
def circuit(trained):
    from experiments.serving import load_served

    return load_served(trained).circuit


@pytest.fixture(scope="module")
def test_images():
    return load("mnist_5k").test


@pytest.mark.needs_openfhe
def test_a_query_of_a_data_set(serving, circuit, test_images, tmp_path, capsys):
    out = tmp_path / "out"
    status = run(
        "query", *serving.server, "--dataset=mnist_5k", "--count=4", f"--out={out}"
    )
    said = capsys.readouterr().out
    assert status == 0
    rows = [json.loads(line) for line in (out / PREDICTIONS).read_text().splitlines()]
    expected = circuit.plain(test_images.inputs[:4] / 255)
    scores = np.array([row["scores"] for row in rows])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-2)
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["label"] for row in rows] == test_images.labels[:4].tolist()
    assert [row["predicted"] for row in rows] == scores.argmax(axis=1).tolist()
    assert all(row["seconds"] > 0 for row in rows)
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert f"accuracy {right / 4:.2%} ({right} of 4)" in said
    for word in ("index", "label", "predicted", "scores", "seconds", "session opened"):
        assert word in said
    config = json.loads((out / "config.json").read_text())
    assert config["request_bytes"] > 10_000
    assert not (out / FIGURE).exists()
    assert serving.process.poll() is None


@pytest.mark.needs_openfhe
def test_a_query_of_an_image_draws_it(serving, circuit, test_images, tmp_path, capsys):
    digit, out = test_images.inputs[7], tmp_path / "out"
    PIL.Image.fromarray(digit[..., 0]).save(tmp_path / "digit.png")
    image = f"--image={tmp_path / 'digit.png'}"
    assert run("query", *serving.server, image, f"--out={out}") == 0
    (row,) = [json.loads(x) for x in (out / PREDICTIONS).read_text().splitlines()]
    expected = circuit.plain(digit[None] / 255)[0]
    np.testing.assert_allclose(row["scores"], expected, rtol=0, atol=1e-2)
    assert row["label"] is None
    assert "accuracy" not in capsys.readouterr().out
    with PIL.Image.open(out / FIGURE) as figure:
        assert figure.width > 600
        assert figure.height > 300
        # The digit is in the left part: as many grey levels as it has, at least.
        left = np.asarray(figure.convert("L"))[:, : figure.width // 3]
        assert len(np.unique(left)) > 20
    # The same directory is not written to again, and nothing was asked.
    with pytest.raises(SystemExit) as exit_:
        run("query", *serving.server, image, f"--out={out}")
    assert exit_.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.needs_openfhe
def test_images_and_heads_that_do_not_fit_are_refused(serving, tmp_path, capsys):
    PIL.Image.new("RGB", (28, 28)).save(tmp_path / "color.png")
    Head("pool", np.zeros((3, 2)), np.zeros(2)).save(tmp_path / "head.npz")
    out = f"--out={tmp_path / 'out'}"
    for argv, part in (
        (("query", f"--image={tmp_path / 'color.png'}", out), "--image has images"),
        (
            ("query", "--dataset=mnist_5k", f"--head={tmp_path / 'head.npz'}", out),
            "--head is for split serving",
        ),
        (("fit_head", f"--head={tmp_path / 'new.npz'}"), "serve --split"),
    ):
        with pytest.raises(SystemExit) as exit_:
            run(*argv, *serving.server)
        assert exit_.value.code == 2
        assert part in capsys.readouterr().err


@pytest.mark.needs_openfhe
def test_a_wrong_token_opens_no_session(serving, token_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(
            "query",
            f"--url={serving.url}",
            f"--token_file={token_file}",
            "--dataset=mnist_5k",
            f"--out={tmp_path / 'out'}",
        )
    assert exit_.value.code == 2
    assert "access token" in capsys.readouterr().err


@pytest.mark.needs_openfhe
def test_the_server_stops_and_has_logged_nothing_about_queries(serving):
    assert serving.token_file.stat().st_mode & 0o777 == 0o600
    assert serving.stop(signal.SIGINT) == 0
    said = "".join(serving.lines)
    assert said.endswith("stopped.\n")
    allowed = (
        r"session [0-9a-f]{8}: (opened, \d+ open|keys loaded in [\d.]+ s|ended .*)"
    )
    for line in serving.lines[:-2]:
        assert re.fullmatch(allowed, line.strip()), line
    assert serving.token_file.read_text().strip() not in said


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_split_serving_with_a_head(trained, circuit, tmp_path, capsys):
    split = circuit.names[-2]
    started = Serving(trained, tmp_path, f"--split={split}", "--packing=batch")
    try:
        head, out = tmp_path / "head.npz", tmp_path / "out"
        asked = ("--dataset=mnist_5k", f"--head={head}", *started.server)
        assert run("fit_head", *asked, "--count=120") == 0
        assert f"features of {split}" in capsys.readouterr().out
        assert run("query", *asked, "--count=40", f"--out={out}") == 0
        rows = (out / PREDICTIONS).read_text().splitlines()
        scores = [json.loads(row)["scores"] for row in rows]
        assert np.shape(scores) == (40, 10)
        right = [json.loads(r)["label"] == json.loads(r)["predicted"] for r in rows]
        assert np.mean(right) > 0.5  # of ten classes, with 120 labelled images
        with pytest.raises(SystemExit):
            run("query", *started.server, "--dataset=mnist_5k", f"--out={tmp_path}/x")
        assert "give --head" in capsys.readouterr().err
        assert started.stop() == 0
    finally:
        started.process.kill()


SERVE_MISTAKES = [
    ((), "--model is missing"),
    (("--model=nowhere",), "--model must be a directory"),
    (("--model=.", "--packing=dense"), "--packing must be one of auto, batch, single"),
    (("--model=.", "--images=0"), "--images must be at least 1"),
    (("--model=.", "--precision=0"), "--precision must be positive"),
    (("--model=.", "--precision=inf"), "--precision must be positive and finite"),
    (("--model=.", "--flooding_bits=-1"), "--flooding_bits must lie between 0 and 128"),
    (("--model=.", "--score_noise=-0.1"), "--score_noise must be finite"),
    (("--model=.", "--port=65536"), "--port must lie between 0 and 65535"),
    (("--model=.", "--port=x"), "a whole number"),
    (("--model=.", "--queries=0"), "--queries must be at least 1"),
    (("--model=.", "--sessions=0"), "--sessions must be at least 1"),
    (("--model=.", "--idle_seconds=0"), "--idle_seconds must be positive"),
    (("--model=.", "--memory_gb=-1"), "--memory_gb must be positive"),
    (("--model=.", "--work_seconds=nan"), "--work_seconds must be positive"),
    (("--model=.", "--colour=red"), "colour"),
]


@pytest.mark.parametrize(("argv", "part"), SERVE_MISTAKES)
def test_mistakes_of_serve_are_one_sentence(argv, part, capsys):
    assert_mistake(("serve", *argv), part, capsys)


def test_without_openfhe_serve_says_what_it_needs(trained, token_file, tmp_path):
    """In a process of its own: this one may have made its keys' parameters before."""
    (tmp_path / "openfhe.py").write_text("raise ImportError('no such platform')")
    argv = ("serve", f"--model={trained}", f"--token_file={token_file}")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = commands.run("infer", *argv, env=environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: encryption needs OpenFHE")


QUERY_MISTAKES = [
    (("query",), "either --image or --dataset"),
    (("query", "--image=a", "--dataset=b"), "either --image or --dataset"),
    (("query", "--dataset=mnist_5k", "--count=0"), "--count must be at least 1"),
    (("query", "--dataset=mnist_5k", "--count=9999"), "--count=9999: the data set has"),
    (("query", "--dataset=nothing"), "nothing"),
    (("query", "--image=nowhere.png"), "--image=nowhere.png cannot be read"),
    (("query", f"--image={__file__}"), "cannot be read"),
    (("query", "--dataset=mnist_5k", "--timeout=0"), "--timeout must be positive"),
    (("query", "--dataset=mnist_5k", "--head=nowhere"), "nowhere holds no head"),
    (("query", "--dataset=mnist_5k", "--url=ftp://x"), "--url must have the form"),
    (("query", "--dataset=mnist_5k", "--url=http://:1"), "--url must have the form"),
    (("query", "--dataset=mnist_5k", "--url=http://x:y"), "--url must have the form"),
    (
        ("query", "--dataset=mnist_5k", "--url=http://127.0.0.1:9"),
        "--url=http://127.0.0.1:9: no answer",
    ),
    (("fit_head",), "--head is missing"),
    (("fit_head", "--head=no/where/h.npz"), "there is no directory no/where"),
    (("fit_head", "--head=h.npz", "--count=1"), "--count must be at least 2"),
    (("fit_head", "--head=h.npz", "--count=9999"), "has 4000 training images"),
]


@pytest.mark.parametrize(("argv", "part"), QUERY_MISTAKES)
def test_mistakes_of_clients_are_one_sentence(
    argv, part, token_file, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert_mistake((*argv, f"--token_file={token_file}"), part, capsys)


def test_a_missing_token_is_a_mistake(tmp_path, capsys):
    argv = ("query", "--dataset=mnist_5k", f"--token_file={tmp_path / 'none'}")
    assert_mistake(argv, "--token_file", capsys)


def test_an_unknown_command_is_a_mistake(capsys):
    assert_mistake(("train",), "infer takes serve, query, fit_head", capsys)


def assert_mistake(argv, part, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(*argv)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_help(capsys):
    assert run("--help") == 0
    assert "serve --model=DIR" in capsys.readouterr().out
    assert infer(["infer"]) == 2
    capsys.readouterr()
    for name, words in (
        ("serve", ("--packing", "--score_noise", "--token_file")),
        ("query", ("--image", "--url", "--out")),
        ("fit_head", ("--head", "--count")),
    ):
        with pytest.raises(SystemExit) as exit_:
            run(name, "--help")
        assert exit_.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in words)
        assert all(len(line) <= 88 for line in said.splitlines())


def test_bad_input_to_serve_makes_no_token(tmp_path):
    with pytest.raises(SystemExit):
        serve(["serve", f"--token_file={tmp_path / 'token'}"])
    assert not Path(tmp_path / "token").exists()
