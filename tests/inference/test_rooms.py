"""The rooms of `inference` import in one direction; only the compiler imports JAX."""

import ast
import graphlib
from pathlib import Path

import pytest

import fedjax_private.inference
from fedjax_private import inference

ROOT = Path(fedjax_private.inference.__file__).parent
PACKAGE = fedjax_private.inference.__name__
ROOMS = ("compiling", "planning", "evaluating", "serving")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py"
}


def imported(path):
    """The modules that a file names in import statements."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


IMPORTS = {name: imported(path) for name, path in FILES.items()}


def siblings(name):
    """The files of the package that a file imports, itself left out."""
    return {n for n in FILES if f"{PACKAGE}.{n}" in IMPORTS[name]} - {name}


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_rooms_above_it(name):
    room = ROOMS.index(name.split(".")[0])
    assert {other.split(".")[0] for other in siblings(name)} <= set(ROOMS[: room + 1])


def test_no_files_import_one_another():
    graph = {name: siblings(name) for name in FILES}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(FILES)


def test_only_the_compiler_imports_jax():
    with_jax = {n for n in FILES if {"jax", "jax.numpy", "jax.extend"} & IMPORTS[n]}
    names = {"compiler", "primitives"}
    assert with_jax == {f"compiling.{name}" for name in names}


def test_every_export_is_found():
    for name in inference.__all__:
        assert getattr(inference, name).__name__ == name
