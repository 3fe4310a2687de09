"""Writes a reference page for each package, from the names that it exports.

Pages lie in `docs/api/` and are made anew by each build: a new export appears there by
itself.
"""

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import fedjax_private
from fedjax_private.choices import Registry

_LIBRARY = fedjax_private.__name__
# Modules of one file that users import from.
MODULES = ("choices", "hyperparameters", "quantization", "trust", "typing")


def comments(module: ModuleType) -> dict[str, list[str]]:
    """Name -> the comment `#:` above its assignment in the module's file."""
    found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    return {name: lines for (owner, name), lines in found.items() if not owner}


def _home(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def public_names(module: ModuleType) -> list[str]:
    """The names that a module exports.

    These are those of `__all__`; without it, what a package imports by name, or what a
    module of one file defines.
    """
    if hasattr(module, "__all__"):
        return sorted(set(module.__all__))
    within = _LIBRARY if hasattr(module, "__path__") else module.__name__
    commented = comments(module)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and (name in commented or _home(value).startswith(within))
    )


def documented_modules() -> dict[str, ModuleType]:
    """The modules that have a page, by name.

    These are `MODULES`, the packages of the library, and deeper ones with `__all__`.
    """
    names = [f"{_LIBRARY}.{name}" for name in MODULES]
    for info in pkgutil.walk_packages(fedjax_private.__path__, f"{_LIBRARY}."):
        if info.ispkg:
            nested = info.name.count(".") > 1
            module = importlib.import_module(info.name)
            if hasattr(module, "__all__") or (not nested and public_names(module)):
                names.append(info.name)
    return {name: importlib.import_module(name) for name in sorted(names)}


def comment(name: str, value: Any) -> list[str]:
    """The comment `#:` above a constant, in whichever module it is defined."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_LIBRARY) and vars(module).get(name) is value:
            lines = comments(module).get(name)
            if lines is not None:
                return lines
    return []


def page(module: ModuleType) -> str:
    """The page of a module, as reStructuredText."""
    title = module.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", ""]
    values = {name: getattr(module, name) for name in public_names(module)}
    values = {name: each for name, each in values.items() if not inspect.ismodule(each)}
    summarized = [name for name, each in values.items() if callable(each)]
    if summarized:
        lines += [".. rubric:: Classes and functions", "", ".. autosummary::"]
        lines += ["   :nosignatures:", ""]
        lines += [f"   {name}" for name in summarized] + [""]
    for name, value in values.items():
        if inspect.isclass(value):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        elif callable(value):
            lines += [f".. autofunction:: {name}", ""]
        else:
            lines += [f".. py:data:: {name}", ""]
            lines += [f"   {line}" for line in comment(name, value)] + [""]
            if isinstance(value, Registry):
                lines += [f"   .. entries:: {title}.{name}", ""]
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


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
