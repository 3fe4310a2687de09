"""Lines that survive crashes, and client ids as text."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.privacy.accounting import Ledger, Neighbors, journal


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 400)))
def test_ranges_round_trip(clients):
    ids = journal.client_ids(sorted(clients))
    assert journal.from_ranges(journal.to_ranges(ids)).tolist() == sorted(clients)


def test_the_leading_fields_of_a_cut_entry_are_read():
    entry = {"event": {"type": "NoPrivacy"}, "count": 12, "clients": "0-9"}
    line = json.dumps(entry, separators=(",", ":"))
    assert journal.readable(line) == entry
    cut = line[: line.index("12") + 1]  # the number may go on past the cut
    assert journal.readable(cut) == {"event": entry["event"]}
    assert journal.readable("") == journal.readable("[1") == {}


def test_lines_and_the_tail_of_a_journal(tmp_path):
    path = str(tmp_path / "journal")
    written = journal.Journal(path)
    written.append("first")
    written.append("second")
    assert written.read() == (["first", "second"], "")
    written.close()
    with open(path, "a") as file:
        file.write("thi")
    again = journal.Journal(path)
    assert again.read() == (["first", "second"], "thi")
    again.close()
    with pytest.raises(ValueError, match="closed"):
        again.append("fourth")


def test_a_ledger_that_is_open_when_the_process_ends_loses_nothing(tmp_path):
    """Neither lines nor words, wherever the ledger is still referred to."""
    path = tmp_path / "ledger.jsonl"
    program = f"""
import sys
from fedjax_private.privacy.accounting import Gaussian, Ledger, Neighbors
ledger = Ledger({str(path)!r}, Neighbors.ADD_REMOVE)
ledger.charge(clients=[0], round_number=1, event=Gaussian(1.0), fingerprint="f",
              digest="d")
cycle = [ledger]
cycle.append(cycle)
sys.kept = ledger
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    again = Ledger(path, Neighbors.ADD_REMOVE)
    assert len(path.read_text().splitlines()) == 2
    again.close()
