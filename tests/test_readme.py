"""What the README shows is run as it stands there."""

import re
from pathlib import Path

import pytest

from tests.docs import pages

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


def blocks(language):
    return [block for kind, block in pages.BLOCK.findall(TEXT) if kind == language]


@pytest.mark.slow
@pytest.mark.needs_openfhe
def test_a_run_takes_few_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line]) < 10
    names = pages.run(f"```python\n{example}```\n")
    result = names["result"]
    assert result.accuracy > 0.9
    assert 1.98 < result.epsilon <= 2.0 < result.epsilon_insider
    assert len(result.rows) == 80
    labels = result.prepared.dataset.test.labels[:5]
    assert (names["predicted"] == labels).sum() >= 4


def test_the_commands_it_names_exist():
    commands = [words for block in blocks("sh") for words in pages.commands(block)]
    assert {words[0] for words in commands} == {"make", "source", "fedjax-private"}
    targets = (README.parent / "Makefile").read_text()
    for words in commands:
        if words[0] == "make":
            assert f"\n{words[1]}:" in targets
        if words[0] == "fedjax-private":
            pages.found(words)
    for target in set(re.findall(r"`make (\w+)", TEXT)):
        assert f"\n{target}:" in targets


def test_every_flag_of_its_commands_is_one(capsys):
    for words in (w for block in blocks("sh") for w in pages.commands(block)):
        if words[0] != "fedjax-private":
            continue
        with pytest.raises(SystemExit):
            command, argv = pages.found([*words[:2], "--help"])
            command(argv)
        listed = [*re.findall(r"--(\w+)", capsys.readouterr().out), "help"]
        assert {word[2:].partition("=")[0] for word in words[2:]} <= set(listed)


def test_its_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (README.parent / link).exists(), link
