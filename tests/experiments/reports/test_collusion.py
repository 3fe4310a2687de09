"""The table of ciphertexts against masks, from made-up runs."""

import dataclasses

import pytest

from experiments.reports import collusion, table_runs
from experiments.reports.table_runs import TablesConfig
from fedjax_private.trust import Decryptor, Trust
from tests.experiments.reports.made_up import results, table


@pytest.fixture(scope="module")
def found():
    return results(TablesConfig(seeds=1, clients=(4,)), lambda spec: 0.9)


def test_every_scheme_has_its_costs_and_its_coalitions(found):
    title, text, body = collusion.section(found)
    assert title == "## Ciphertexts against masks"
    assert "8 clients" in text
    lines = {line["sums"]: line for line in table(body)}
    assert list(lines) == list(table_runs.SCHEMES)
    together = {
        name: line["who may read uploads together"] for name, line in lines.items()
    }
    assert together == {
        "ckks": "server and authority",
        "exact": "server and authority",
        # T = 6 of 8: two sums, or two lists of uploads, need four that help with both.
        "threshold_ckks": "server and 4 of 8 holders",
        "threshold_exact": "server and 4 of 8 holders",
        "masks": "server and 4 of 8 clients",
    }
    by_one = "uploads that the server reads with one client that departs"
    assert lines["masks"][by_one] == "none"
    assert "under the key" in lines["exact"][by_one]
    assert lines["masks"]["bytes a parameter"] == "0.33"


def test_runs_that_are_missing_have_no_line(found):
    rows = {s: row for s, row in found.rows.items() if not s.label.startswith("cost")}
    *_, body = collusion.section(dataclasses.replace(found, rows=rows))
    assert table(body) == []


def test_every_decryptor_has_its_readers():
    for decryptor in Decryptor:
        assert collusion.readers(Trust(8, decryptor, None, 3)).startswith("server")
        assert collusion.BY_ONE_CLIENT[decryptor]
