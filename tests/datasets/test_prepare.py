import importlib.util
import itertools
import os
import subprocess
import sys
import time
import types

import pytest
import tensorflow_datasets as tfds

from fedjax_private.datasets import DatasetError, load, prepare as prepare_module
from tests.datasets.sources.tiny import FedjaxPrivateTiny


def check_ways_out(error):
    for way in ("fedjax-private[prepare]", "idx:DIR", "mnist_5k"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unprepared_set_fails_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="mnist is not prepared in") as error:
        load("mnist", data_dir=tmp_path)
    check_ways_out(error)


def test_an_unreachable_set_fails_with_the_reason(tmp_path, monkeypatch):
    # The child is this interpreter, told to fail as a dead network makes TFDS fail.
    commands = []

    def run(command, directories):
        commands.append(command)
        code = "raise OSError('Name or service not known')"
        return genuine([sys.executable, "-c", code], directories)

    genuine = prepare_module.run_watched
    monkeypatch.setattr(prepare_module, "run_watched", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(DatasetError, match="Name or service not known") as error:
        load("mnist", data_dir=tmp_path)
    check_ways_out(error)
    (command,) = commands
    assert command[1:] == [
        *("-m", "fedjax_private.datasets.prepare", "mnist", f"--data_dir={tmp_path}")
    ]


def test_the_promise_of_20_seconds():
    assert prepare_module.SILENCE_SECONDS + prepare_module.GRACE_SECONDS < 16


def watched(code, directory, silence=60.0):
    return prepare_module.run_watched(
        [sys.executable, "-c", code], [directory], silence=silence, poll=0.05
    )


@pytest.mark.parametrize("deaf", [False, True])
def test_a_silent_child_is_ended(tmp_path, monkeypatch, deaf):
    pid_file = tmp_path / "pid"
    code = (
        "import os, pathlib, signal, time; "
        + ("signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else "")
        + f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); "
        "time.sleep(6000)"
    )

    def clock():  # stands still until the child has started, and then leaps
        started = pid_file.exists() and pid_file.read_text()
        return time.monotonic() if started else 0.0

    stopwatch = types.SimpleNamespace(sleep=time.sleep, monotonic=clock)
    monkeypatch.setattr(prepare_module, "time", stopwatch)
    failure = watched(code, tmp_path / "missing", silence=2.0)
    assert failure == "no data arrived for 2 seconds"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_child_that_writes_is_left_alone(tmp_path, monkeypatch):
    # At every look a byte has been written and a minute has passed.
    written, end = tmp_path / "written", tmp_path / "end"
    minutes = itertools.count()

    def clock():
        with written.open("ab") as file:
            file.write(b"x")
        if written.stat().st_size == 20:
            end.touch()
        return 60.0 * next(minutes)

    stopwatch = types.SimpleNamespace(sleep=time.sleep, monotonic=clock)
    monkeypatch.setattr(prepare_module, "time", stopwatch)
    code = (
        "import pathlib, time\n"
        f"while not pathlib.Path({str(end)!r}).exists(): time.sleep(0.01)"
    )
    assert watched(code, tmp_path, silence=90.0) is None
    assert written.stat().st_size >= 20


def test_a_child_that_computes_is_left_alone(tmp_path):
    code = "import time\nwhile time.process_time() < 4: pass"
    assert watched(code, tmp_path, silence=3.0) is None


def test_a_failing_child_gives_its_last_line(tmp_path):
    assert watched("import sys; sys.exit('gone\\n\\n')", tmp_path) == "gone"
    assert watched("raise SystemExit(3)", tmp_path) == "exit status 3"


def test_interrupting_ends_the_child(tmp_path, monkeypatch):
    started = []

    def interrupted(seconds):
        raise KeyboardInterrupt

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    stopwatch = types.SimpleNamespace(sleep=interrupted, monotonic=time.monotonic)
    monkeypatch.setattr(prepare_module, "time", stopwatch)
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        watched("import time; time.sleep(6000)", tmp_path)
    assert started[0].returncode is not None


def test_the_preparing_command_prepares(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tfds,
        "builder",
        lambda name, data_dir: FedjaxPrivateTiny(data_dir=data_dir, config="grey"),
    )
    monkeypatch.setattr(prepare_module.signal, "signal", lambda *_: None)
    arguments = ["fedjax_private_tiny/grey", f"--data_dir={tmp_path}"]
    assert prepare_module.main(arguments) == 0
    monkeypatch.undo()
    assert len(load(arguments[0], data_dir=tmp_path).train) == 6
