"""Makes signatures short: names of NumPy's types, `...` for defaults without a name.

Python spells `npt.ArrayLike` as the union that it is, in four lines.
"""

import re
from typing import Any

import numpy.typing as npt

# How a value without a short name is printed, such as <function Entry.<lambda>>.
_OBJECT = re.compile(r"<(?:[^<>]|<[^<>]*>)*>")
_ARRAY = re.compile(
    r"(~?)numpy\.ndarray\[tuple\[int, \.\.\.\], ~?numpy\.dtype\[([\w.~]+)\]\]"
)
_UNIONS = {"ArrayLike": npt.ArrayLike, "DTypeLike": npt.DTypeLike}


def shortened(text: str) -> str:
    """A signature, or a field with a type, with NumPy's types by their names."""
    from sphinx.util.typing import stringify_annotation

    for mode, mark in (("smart", "~"), ("fully-qualified-except-typing", "")):
        for name, union in _UNIONS.items():
            long = stringify_annotation(union, mode)  # type: ignore[arg-type]
            text = text.replace(long, f"{mark}numpy.typing.{name}")
    return _ARRAY.sub(r"\1numpy.typing.NDArray[\2]", text)


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, result: Any
) -> tuple[str | None, str | None]:
    if signature and _OBJECT.search(signature.replace("->", "")):
        signature = _OBJECT.sub("...", signature)
    return signature and shortened(signature), result and shortened(result)


def _fields(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = [shortened(line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _fields, priority=900)  # after napoleon
    return {"parallel_read_safe": True}
