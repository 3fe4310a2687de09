"""The page of attacks: made from the tests, and never older than they are."""

import pytest

from tests.attacks.table import ATTACKERS, PAGE, attacks, group_of, page


def test_the_page_lists_all_attacks_of_the_tests():
    message = "docs/attacks.md is stale: run python -m tests.attacks.table"
    assert PAGE.read_text() == page(), message


def test_there_are_attacks_of_every_kind_of_party():
    rows = list(attacks())
    assert len(rows) >= 40
    assert {row.group for row in rows} >= set(ATTACKERS)
    assert len({row.test for row in rows}) == len(rows)
    # A result is one of these, so that nobody has to guess.
    assert all(row.result[0].islower() and row.result.endswith(".") for row in rows)


@pytest.mark.parametrize(
    ("attacker", "group"),
    [
        ("Server", "Server"),
        ("Server and T holders", "Coalitions"),
        ("Clients, all of a sum but one", "Coalitions"),
        ("Client or server", "Clients"),
        ("Client, of `masks`", "Clients"),
        ("Edge server", "Relays"),
        ("Holder that leads", "Holders of key shares"),
    ],
)
def test_rows_stand_with_their_attackers(attacker, group):
    assert group_of(attacker) == group
    with pytest.raises(ValueError, match="none of the attackers"):
        group_of("Somebody")
