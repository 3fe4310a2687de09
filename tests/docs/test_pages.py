"""What the pages of the documentation show is what happens."""

import pytest

from tests.docs import pages

# Pages whose blocks are run, without and with OpenFHE.
PLAIN = (
    "howto/data",
    "howto/partitions",
    "howto/clients",
    "howto/models",
    "howto/algorithms",
    "howto/mechanisms",
    "howto/schemes",
)
ENCRYPTED = ("trust", "tutorial", "encrypted_sums", "howto/openfhe", "howto/sweeps")
LONG = ("user_level",)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the text of a page in a folder of its own, which is on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return pages.run


def _marked(names, *marks):
    return [pytest.param(name, marks=marks) for name in names]


@pytest.mark.parametrize(
    "name",
    [
        *_marked(PLAIN),
        *_marked(ENCRYPTED, pytest.mark.needs_openfhe),
        *_marked(LONG, pytest.mark.needs_openfhe, pytest.mark.slow),
    ],
)
def test_a_page_shows_what_happens(name, run):
    run((pages.DOCS / f"{name}.md").read_text())


def test_every_page_with_examples_is_run():
    written = {
        str(page.relative_to(pages.DOCS).with_suffix(""))
        for page in pages.DOCS.rglob("*.md")
        if page.parent.name != "repository" and "```python" in page.read_text()
    }
    assert written == {*PLAIN, *ENCRYPTED, *LONG}


SMALL = """
```python
# greeting.py
def greet(name, times):
    print(f"hello {name}, {times:.3f}")
```

```python
from greeting import greet
greet("you", 1)
```

```text
hello ..., 1.01
```

```sh
python -m fedjax_private.privacy.accounting --noise_multiplier=2 \\
    --sampling_probability=1 --steps=1 --delta=1e-5
fedjax-private train --help   # a comment
```

```text
epsilon: 2.166 ... --arm ...
```

```python
greet("you")
```

```text
TypeError: greet() missing 1 required ...
```
"""

PLANTED = {
    "another number": ("1.01", "1.11", "1.000 where 1.11 is shown"),
    "another word": ("hello ...", "bye ...", "printed:\nhello you"),
    "another error": ("missing 1", "missing 2", "missing 1"),
    "an error that is not shown": (
        "```text\nTypeError: greet() missing 1 required ...\n```",
        "",
        "TypeError: greet",
    ),
    "no error where one is shown": ('greet("you")\n', 'greet("you", 2)\n', "2.000"),
    "a flag that does not exist": ("--noise_multiplier", "--noise", "arguments"),
    "a command that does not exist": ("train --help", "trian", "experiments.trian"),
    "another program": ("fedjax-private train", "rm", "no test runs"),
    "a file of another name": ("# greeting.py", "# greetings.py", "greeting"),
    "text after nothing": ("```sh", "```text\na\n```\n\n```sh", "no output"),
}


def test_a_right_page_passes(run):
    assert callable(run(SMALL)["greet"])


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault, run):
    right, wrong, words = PLANTED[fault]
    assert right in SMALL
    with pytest.raises((pages.PageError, ImportError), match=words):
        run(SMALL.replace(right, wrong))
