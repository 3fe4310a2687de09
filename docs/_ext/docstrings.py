"""Reads the docstrings' plain text as reStructuredText.

An indented block below a paragraph is code, as in Markdown, and needs no `::`. Stars
and bars are plain signs, but for *emphasis*. A colon in a property's first line does
not part a type from a description. A paragraph that begins with "Formal guarantees:" is
a section.
"""

import re
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Formal guarantees):$")
_ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s")
_CODE_OR_SIGN = re.compile(r"`+[^`]+`+|(?<![\w*])\*[A-Za-z]+\*(?![\w*])|[*|]")
_GUARANTEES = re.compile(r"^Formal guarantees[:.] +")
_COLON = "\0"  # stands for a colon while napoleon reads


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def with_code_blocks(lines: list[str]) -> list[str]:
    """The lines, with `::` before each indented block that follows a paragraph."""
    result: list[str] = []
    above = ""  # the last line that is neither blank nor in a code block
    in_code = False
    for number, line in enumerate(lines):
        if not line.strip() or (in_code and _indent(line)):
            result.append(line)
            continue
        after_blank = number > 0 and not lines[number - 1].strip()
        paragraph = above and not _indent(above) and not _SECTION.match(above)
        in_code = bool(
            after_blank and _indent(line) and paragraph and not _ITEM.match(above)
        )
        if in_code:
            result += ["::", ""]
        else:
            above = line
        result.append(line)
    return result


def with_guarantees(lines: list[str]) -> list[str]:
    """The lines, with paragraphs that begin with "Formal guarantees:" as sections."""
    result: list[str] = []
    inside = False
    for line in lines:
        if start := _GUARANTEES.match(line):
            inside = True
            result += ["", "Formal guarantees:"]
            line = line[start.end() :]
            line = line[:1].upper() + line[1:]
        inside = inside and bool(line.strip())
        result.append(f"    {line}" if inside else line)
    return result


def with_plain_signs(lines: list[str]) -> list[str]:
    """The lines, with stars and bars escaped outside of code, emphasis and lists."""
    result: list[str] = []
    in_code = False
    for line in lines:
        in_code = line == "::" or (in_code and not (line.strip() and not _indent(line)))
        if not in_code:
            bullet = _ITEM.match(line)
            start = bullet.end() if bullet else 0
            line = line[:start] + _CODE_OR_SIGN.sub(
                lambda m: f"\\{m[0]}" if len(m[0]) == 1 else m[0], line[start:]
            )
        result.append(line)
    return result


def _before_napoleon(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = with_plain_signs(with_code_blocks(with_guarantees(lines)))
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(":", _COLON)


def _after_napoleon(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    from sphinx.domains.python import PyObject

    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", _before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=900)
    return {"parallel_read_safe": True}
