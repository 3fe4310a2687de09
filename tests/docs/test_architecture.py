import re

import pytest


@pytest.fixture(scope="module")
def text(root):
    return (root / "docs/architecture.md").read_text()


def test_the_table_of_rooms_has_every_package(root, text):
    rooms = set(re.findall(r"^\| `(\w+)/`", text, re.M))
    packages = {path.parent.name for path in root.glob("fedjax_private/*/__init__.py")}
    assert rooms == {*packages, "experiments"}


def test_the_files_of_the_walks_exist(root, text):
    walks = text.partition("## Three walks")[2]
    named = [name for name in re.findall(r"`(\w[\w/]*\w)`", walks) if "/" in name]
    assert len(named) > 25
    for name in named:
        path = root / name
        if not name.startswith("experiments"):
            path = root / "fedjax_private" / name
        assert path.with_suffix(".py").exists() or path.is_dir(), name
