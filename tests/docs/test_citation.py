import yaml

import fedjax_private


def test_the_citation_names_this_version_the_authors_and_the_paper(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == fedjax_private.__version__
    assert citation["authors"] == [{"name": "The fedjax_private authors"}]
    (paper,) = citation["references"]
    assert paper["title"].startswith("PRIVATE-AI") and len(paper["authors"]) == 5
