"""Writes a reference page for each package, from the names that it exports.

Pages lie in `docs/api/` and are made anew by each build: a new export appears there by
itself.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from docstrings import with_plain_signs

import fedjax_private
from fedjax_private.choices import Registry

_LIBRARY = fedjax_private.__name__
# Modules of one file that users import from.
MODULES = ("choices", "hyperparameters", "quantization", "trust", "typing")


def comments(module: ModuleType) -> dict[str, list[str]]:
    """Name -> the comment right above its assignment in the module's file."""
    source = inspect.getsource(module)
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        targets += node.targets if isinstance(node, ast.Assign) else []
        last = first = node.lineno - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        above = [line.lstrip("#: ") for line in lines[first:last]]
        for target in targets:
            if above and isinstance(target, ast.Name):
                found[target.id] = above
    return found


def _home(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def public_names(module: ModuleType) -> list[str]:
    """The names that a module exports.

    These are those of `__all__`; without it, what a package imports by name, or what a
    module of one file defines.
    """
    if hasattr(module, "__all__"):
        return sorted(
            name
            for name in module.__all__
            if not isinstance(getattr(module, name), ModuleType)
        )
    within = _LIBRARY if hasattr(module, "__path__") else module.__name__
    commented = comments(module)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType | TypeVar)
        and (name in commented or _home(value).startswith(within))
    )


def documented_modules() -> dict[str, ModuleType]:
    """The modules that have a page, by name.

    These are `MODULES`, the packages of the library, deeper ones with `__all__`, and
    modules that a package exports.
    """
    modules = [importlib.import_module(f"{_LIBRARY}.{name}") for name in MODULES]
    for info in pkgutil.walk_packages(fedjax_private.__path__, f"{_LIBRARY}."):
        if info.ispkg:
            package = importlib.import_module(info.name)
            exported = getattr(package, "__all__", None)
            if exported is not None or info.name.count(".") == 1:
                modules.append(package)
            values = (getattr(package, name) for name in exported or ())
            modules += [value for value in values if isinstance(value, ModuleType)]
    found = {module.__name__: module for module in modules if public_names(module)}
    return dict(sorted(found.items()))


def comment(name: str, value: Any) -> list[str]:
    """The comment above a constant, in whichever module it is defined."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_LIBRARY) and vars(module).get(name) is value:
            lines = comments(module).get(name)
            if lines is not None:
                return lines
    return []


def described(name: str, value: Any, title: str) -> list[str]:
    """What the page says of a constant; nothing for classes and functions."""
    if isinstance(value, Registry):
        kind, entry = value.kind, value.entry.__name__
        first = f"Finds by name what ``{kind}`` can be: each is a `{entry}`."
        return [first, "", f".. entries:: {title}.{name}"]
    above = comment(name, value)
    if not above and not callable(value):
        raise ValueError(
            f"{title}.{name} needs a comment above it that says what it is."
        )
    return with_plain_signs(above)


def page(module: ModuleType) -> str:
    """The page of a module, as reStructuredText."""
    title = module.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", ""]
    values = {name: getattr(module, name) for name in public_names(module)}
    constants = {name: described(name, each, title) for name, each in values.items()}
    summarized = [name for name in values if not constants[name]]
    if summarized:
        lines += [".. rubric:: Classes and functions", "", ".. autosummary::"]
        lines += ["   :nosignatures:", ""]
        lines += [f"   {name}" for name in summarized] + [""]
    for name, value in values.items():
        if constants[name]:
            lines += [f".. py:data:: {name}", ""]
            lines += [f"   {line}" for line in constants[name]] + [""]
        elif inspect.isclass(value):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        else:
            lines += [f".. autofunction:: {name}", ""]
    return "\n".join(lines)


def _write(app: Any) -> None:
    pages = {name: page(module) for name, module in documented_modules().items()}
    contents = "\n".join(f"   {name}" for name in pages)
    pages["index"] = (
        f"API reference\n=============\n\n.. toctree::\n   :maxdepth: 1\n\n{contents}\n"
    )
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def missing(objects: Iterable[str]) -> list[str]:
    """The exported names that are on no page, given the names that are."""
    known = set(objects)
    return [
        f"{title}.{name}"
        for title, module in documented_modules().items()
        for name in public_names(module)
        if f"{title}.{name}" not in known
    ]


def _check(app: Any, env: Any) -> None:
    from sphinx.util import logging

    for name in missing(env.domaindata["py"]["objects"]):
        logging.getLogger(__name__).warning("%s is exported and on no page", name)


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.connect("builder-inited", _write)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True}
