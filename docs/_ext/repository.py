"""Pages of the site that are files of the repository, and links between the two.

`docs/repository/` is made anew by each build from the Markdown files that lie outside
`docs/`. Their links are relative to where they lie, as on a code host; here each is
pointed at a page of the site if the file that it names has one, and otherwise at the
file itself.
"""

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Files of the repository -> the page that holds their text.
PAGES = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "BUILD.md": "build",
    "fedjax_private/encryption/README.md": "encryption",
    "fedjax_private/inference/README.md": "inference",
    "fedjax_private/privacy/accounting/README.md": "accounting",
    "experiments/results/tables/report.md": "report_tables",
    "experiments/results/tables_paper_shape/report.md": "report_paper_shape",
}
_LINK = re.compile(r"(?<!`)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def located(target: str, source: Path) -> str | None:
    """The repository's path of a relative link in `source`, or None for other links."""
    if re.match(r"[a-z]+:", target) or target.startswith("/"):
        return None
    return os.path.relpath(os.path.normpath(source.parent / target), ROOT)


def rewritten(text: str, source: Path, page: Path) -> str:
    """The text of `source` as it stands at `page`, with its links pointed anew."""

    def replaced(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = located(target, source)
        if path is None:
            return match[0]
        where = ROOT / path
        package = path.replace("/", ".")
        if path in PAGES:
            where = ROOT / "docs/repository" / f"{PAGES[path]}.md"
        elif path == "README.md":
            where = ROOT / "docs/index.md"
        elif (ROOT / "docs/api" / f"{package}.rst").exists():
            where = ROOT / "docs/api" / f"{package}.rst"
        elif where.is_dir() and (where / "__init__.py").exists():
            where = where / "__init__.py"
        return f"]({os.path.relpath(where, page.parent)}{anchor})"

    return _LINK.sub(replaced, text)


def _write(app: Any) -> None:
    folder = Path(app.srcdir, "repository")
    folder.mkdir(exist_ok=True)
    for path, name in PAGES.items():
        page = folder / f"{name}.md"
        text = rewritten((ROOT / path).read_text(), ROOT / path, page)
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def _read(app: Any, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md" and page.parent.name != "repository":
        source[0] = rewritten(source[0], page, page)


def setup(app: Any) -> dict[str, bool]:
    """Is called by Sphinx."""
    app.connect("builder-inited", _write, priority=600)  # after the reference
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
