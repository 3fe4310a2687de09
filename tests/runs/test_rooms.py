"""Files of `runs` import in one direction, and the library knows no command."""

import ast
import re
from pathlib import Path

import fedjax_private
from fedjax_private import runs

LIBRARY = Path(fedjax_private.__file__).parent


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


def test_each_file_imports_only_those_that_its_package_lists_before_it():
    listed = re.findall(r"`(\w+)`", runs.__doc__.partition("Files,")[2])
    paths = {path.stem: path for path in (LIBRARY / "runs").glob("[a-z]*.py")}
    assert set(listed) == set(paths)
    for i, name in enumerate(listed):
        later = {f"fedjax_private.runs.{other}" for other in listed[i:]}
        assert not imported(paths[name]) & later, name


def test_the_library_imports_no_command():
    for path in LIBRARY.rglob("*.py"):
        assert not any(m.split(".")[0] == "experiments" for m in imported(path)), path
