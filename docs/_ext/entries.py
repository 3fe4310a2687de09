"""The directive `entries`: the entries of a registry, such as
`fedjax_private.datasets.PARTITIONS`: what each is, and its settings.
"""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from fedjax_private.choices import Registry, settings_of


def _sentence(text: str) -> nodes.paragraph:
    """A paragraph in which backquotes mark code."""
    paragraph = nodes.paragraph()
    for number, part in enumerate(re.split("`", text)):
        paragraph += nodes.literal(part, part) if number % 2 else nodes.Text(part)
    return paragraph


def described(registry: Registry[Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, summary and the settings, a sentence each, of every entry."""
    for entry in registry.entries():
        known, settings = settings_of(entry), []
        for field in dataclasses.fields(entry.settings):
            if field.name in known and "help" in field.metadata:
                unset = field.default is None or field.default is False
                default = "" if unset else f" (default `{field.default}`)"
                text = f"`{field.name}`: {field.metadata['help']}{default}"
                settings.append(text)
        yield entry.name, entry.summary, settings


class Entries(SphinxDirective):
    """Describes the entries of the registry that its argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The definition list."""
        self.env.note_reread()  # entries lie in files that Sphinx does not know
        module, _, name = self.arguments[0].rpartition(".")
        registry = getattr(importlib.import_module(module), name)
        entries = nodes.definition_list(classes=["simple"])
        for name, summary, settings in described(registry):
            body = nodes.definition("", _sentence(summary))
            if settings:
                items = [nodes.list_item("", _sentence(each)) for each in settings]
                body += nodes.bullet_list("", *items)
            term = nodes.term("", "", nodes.literal(name, name))
            entries += nodes.definition_list_item("", term, body)
        return [entries]


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.add_directive("entries", Entries)
    return {"parallel_read_safe": True}
