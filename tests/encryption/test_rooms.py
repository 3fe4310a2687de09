"""The rooms of `encryption` import in one direction; one file imports JAX."""

import ast
import graphlib
from pathlib import Path

import pytest

import fedjax_private.encryption

ROOT = Path(fedjax_private.encryption.__file__).parent
PACKAGE = fedjax_private.encryption.__name__
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py"
}

# Each room imports only from itself, from the ground (files outside of any room) and
# from the rooms listed.
ROOMS = {
    "": (),
    "math": (),
    "messages": (),
    "masking": ("math", "messages"),
    "openfhe": ("math",),
    "parties": ("math", "messages", "openfhe"),
}


def imported(path):
    """The modules that a file names in import statements, wherever they stand."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


IMPORTS = {name: imported(path) for name, path in FILES.items()}


def own(name):
    """The files of this package that a file imports."""
    return {n for n in FILES if f"{PACKAGE}.{n}" in IMPORTS[name]}


def room(name):
    return name.rpartition(".")[0]


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_rooms_before_it(name):
    allowed = {"", room(name), *ROOMS[room(name)]}
    assert {room(other) for other in own(name)} <= allowed


def test_no_files_import_one_another():
    tuple(
        graphlib.TopologicalSorter({name: own(name) for name in FILES}).static_order()
    )


def test_one_file_imports_jax():
    assert [n for n in FILES if "jax" in IMPORTS[n]] == ["math.kernels"]
    assert [n for n in FILES if "math.kernels" in own(n)] == ["math.polynomials"]


def test_only_one_room_knows_openfhe():
    loading = [n for n, path in FILES.items() if '"openfhe"' in path.read_text()]
    assert loading == ["openfhe.backend"]
    assert not any("openfhe" in modules for modules in IMPORTS.values())
