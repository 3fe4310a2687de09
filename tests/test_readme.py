"""What the README shows is run as it stands there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.needs_openfhe
def test_the_library_example_runs_and_learns(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "readme"})
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
