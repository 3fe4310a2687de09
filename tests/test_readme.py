"""What the README shows is run as it stands there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def example(number):
    """Runs a Python example; returns the names that it defines."""
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {"__name__": "readme"}
    exec(compile(examples[number], str(README), "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_run_takes_few_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = example(0)
    result = names["result"]
    assert result.accuracy > 0.9
    assert 1.98 < result.epsilon <= 2.0 < result.epsilon_insider
    assert len(result.rows) == 80
    labels = result.prepared.dataset.test.labels[:5]
    assert (names["predicted"] == labels).sum() >= 4
    text = README.read_text().split("```python\n")[1].split("```")[0]
    assert len([line for line in text.splitlines() if line]) < 10


@pytest.mark.needs_openfhe
def test_a_client_of_ones_own_runs_and_learns(capsys):
    example(1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["10", "20"]
    assert float(lines[-1].split()[1].strip("[]")) > 0.7
    assert 0 < float(lines[-1].split()[2]) < 2e-4


def test_the_commands_it_names_exist():
    text = README.read_text()
    for name in set(re.findall(r"-m experiments\.(\w+)", text)):
        assert (README.parent / "experiments" / f"{name}.py").exists()
    for target in set(re.findall(r"^make (\w+)", text, re.MULTILINE)):
        assert f"\n{target}:" in (README.parent / "Makefile").read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (README.parent / link).exists(), link
