"""Links of all Markdown files: what they name exists."""

import re
from urllib.parse import urlparse

import pytest
import repository

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.M | re.S)


def pages(root):
    generated = {root / "docs/api", root / "docs/repository", root / "docs/_build"}
    for folder in (root, root / "docs", root / "fedjax_private", root / "experiments"):
        paths = folder.glob("*.md") if folder == root else folder.rglob("*.md")
        for path in paths:
            if not generated & set(path.parents):
                yield path


def slug(heading):
    """The anchor of a heading, as code hosts and the site make it."""
    text = re.sub(r"`|\[|\]\([^)]*\)", "", heading.strip().lower())
    return re.sub(r"\s", "-", re.sub(r"[^\w\- ]", "", text))


def anchors(path):
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text()), re.M)
    return {slug(heading) for heading in headings}


def broken(path):
    """The links of a file that name nothing."""
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        target, _, anchor = link.partition("#")
        if urlparse(link).scheme:
            url = urlparse(link)
            if url.scheme not in ("https", "mailto") or "." not in url.netloc:
                yield link
            continue
        named = path.parent / target if target else path
        lost = anchor and named.suffix == ".md" and anchor not in anchors(named)
        if lost or not named.exists():
            yield link


def test_every_relative_link_names_a_file_and_a_heading(root):
    found = {path: list(broken(path)) for path in pages(root)}
    assert {str(path): links for path, links in found.items() if links} == {}
    assert root / "README.md" in found and root / "docs/index.md" in found


@pytest.mark.parametrize(
    "text",
    ["[a](missing.md)", "[a](#no-heading)", "[a](b.md#else)", "![](http://x.org)"],
)
def test_a_broken_link_is_found(tmp_path, text):
    (tmp_path / "b.md").write_text("# Other `words`, here\n")
    (tmp_path / "a.md").write_text(f"# Title\n{text}\n")
    assert len(list(broken(tmp_path / "a.md"))) == 1


def test_links_that_name_something_are_whole(tmp_path):
    (tmp_path / "b.md").write_text("# Other `words`, here\n")
    text = (
        "# Title\n[a](b.md#other-words-here) [b](#title) [c](https://example.org/x)\n"
    )
    (tmp_path / "a.md").write_text(text + "```\n[d](in code)\n```\n")
    assert list(broken(tmp_path / "a.md")) == []


def test_files_outside_the_site_have_their_pages(root):
    for path in repository.PAGES:
        assert (root / path).exists()
    outside = {
        str(path.relative_to(root))
        for path in pages(root)
        if root / "docs" not in path.parents
    }
    assert outside - {"README.md"} == set(repository.PAGES)


def test_a_link_is_pointed_at_the_page_of_its_file():
    root = repository.ROOT
    source, page = root / "CONTRIBUTING.md", root / "docs/repository/contributing.md"

    def pointed(text):
        return repository.rewritten(text, source, page)

    assert pointed("[a](docs/architecture.md#rooms)") == "[a](../architecture.md#rooms)"
    assert pointed("[a](BUILD.md)") == "[a](build.md)"
    assert pointed("[a](README.md)") == "[a](../index.md)"
    assert pointed("[a](Makefile)") == "[a](../../Makefile)"
    assert pointed("[a](https://example.org)") == "[a](https://example.org)"
    assert pointed("[a](#here)") == "[a](#here)"
