"""The console script: `fedjax-private COMMAND`."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedjax_private
from experiments import __main__ as script
from experiments.settings import flags

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", script.COMMANDS)
def test_every_command_shows_its_help_as_it_was_called(name, capsys):
    assert callable(getattr(importlib.import_module(f"experiments.{name}"), name))
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(script.main(["fedjax-private", name, "--help"]))
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: fedjax-private {name}" in told
    assert "python -m experiments" not in told.partition("\n\n")[2].partition("\n\n")[0]


def test_every_module_with_a_command_is_listed():
    files = (ROOT / "experiments").glob("[a-z]*.py")
    ending = re.compile(r"^    command\.main\((\w+)\)$", re.MULTILINE)
    commands = {path.stem: ending.findall(path.read_text()) for path in files}
    assert {name for name, found in commands.items() if found == [name]} == set(
        script.COMMANDS
    )


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_alone_it_prints_its_commands(argv, capsys):
    assert script.main(["fedjax-private", *argv]) == 0
    told = capsys.readouterr().out
    for name, line in script.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", told, re.MULTILINE)
    assert max(map(len, told.splitlines())) <= flags.HELP_WIDTH


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "unknown command 'trian': did you mean train?"),
        (["xyz", "--help"], "unknown command 'xyz': give one of sweep, train, tables,"),
        (["--arm=fl"], "unknown command '--arm=fl': give one of sweep, train, tables,"),
    ],
)
def test_what_is_no_command_gets_one_sentence(argv, words, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(["fedjax-private", *argv])
    assert ended.value.code == flags.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}")


def test_the_chosen_command_gets_the_other_arguments(monkeypatch):
    monkeypatch.setattr("experiments.train.train", lambda argv: list(argv))
    got = script.main(["fedjax-private", "train", "--arm=fl", "--rounds=2"])
    assert got == ["fedjax-private train", "--arm=fl", "--rounds=2"]


def test_the_script_finds_modules_of_the_current_directory(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    monkeypatch.setattr(sys, "argv", ["/bin/fedjax-private", "--version"])
    with pytest.raises(SystemExit) as ended:
        script.run()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fedjax-private {fedjax_private.__version__}\n"
    assert sys.path == [str(Path.cwd()), "elsewhere"]


def test_help_waits_for_no_library():
    code = (
        "import sys; from experiments.__main__ import main; main(['', 'help'])\n"
        "print(sorted({'jax', 'flax', 'matplotlib', 'openfhe'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert told.splitlines()[-1] == "[]"


def test_usage_is_left_as_it_is_for_modules():
    usage = (
        "usage: python -m experiments.infer query\n       python -m experiments.train"
    )
    assert flags.as_called(usage, "/x/experiments/infer.py") == usage
    called = "usage: fedjax-private infer query\n       fedjax-private train"
    assert flags.as_called(usage, "fedjax-private infer query") == called


def test_packaging_names_the_script_and_reads_the_version():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'\n{flags.PROGRAM} = "experiments.__main__:run"\n' in text
    assert 'version = { attr = "fedjax_private.__version__" }' in text
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fedjax_private.__version__)
