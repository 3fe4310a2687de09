import dataclasses

import pytest

from fedjax_private.trust import Adversary, Decryptor, Trust

SIX = Trust(6, Decryptor.KEY_AUTHORITY)
OUTSIDERS, INSIDERS = Adversary.OUTSIDERS, Adversary.INSIDERS


@pytest.mark.parametrize(
    ("uploads", "given", "honest"),
    [(6, None, 5), (6, 2, 2), (1, None, 1), (2, None, 1)],
)
def test_all_but_one_are_honest_unless_told_otherwise(uploads, given, honest):
    assert Trust(uploads, Decryptor.HOLDERS, given).honest_clients == honest


@pytest.mark.parametrize("decryptor", Decryptor)
def test_shares_that_hide_a_sum_from_each_adversary(decryptor):
    trust = Trust(6, decryptor, honest=4)
    read = decryptor is Decryptor.NOBODY_NEEDED  # one share hides every upload
    assert trust.shares(OUTSIDERS) == (1 if read else 6)
    assert trust.shares(INSIDERS) == (1 if read else 4)


@pytest.mark.parametrize(
    ("decryptor", "honest", "quorum", "read"),
    [
        (Decryptor.NOBODY_NEEDED, 6, None, True),
        (Decryptor.EVERY_CLIENT, 6, None, True),
        (Decryptor.KEY_AUTHORITY, 1, None, False),
        (Decryptor.HOLDERS, 1, None, False),  # the honest one must take part
        (Decryptor.HOLDERS, 3, 4, False),
        (Decryptor.HOLDERS, 2, 4, True),  # four collude, and four decrypt
    ],
)
def test_insiders_read_uploads_where_they_decrypt(decryptor, honest, quorum, read):
    trust = Trust(6, decryptor, honest, quorum)
    assert trust.insiders_read_uploads is read


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uploads": 0}, "at least one upload, got 0"),
        ({"honest": 0}, "honest must lie between 1 and the 6"),
        ({"honest": 7}, "honest must lie between 1 and the 6"),
        ({"quorum": 0}, "quorum must lie between 1 and the 6"),
        ({"quorum": 7}, "quorum must lie between 1 and the 6"),
    ],
)
def test_numbers_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SIX, **values)


def test_a_decryptor_by_name():
    assert Trust(3, "authority") == Trust(3, Decryptor.KEY_AUTHORITY)
    with pytest.raises(ValueError, match=r"one of none, authority, .*got 'server'"):
        Trust(3, "server")


@pytest.mark.parametrize("numbers", [("3",), (3.0,), (3, "2"), (3, 2, "all")])
def test_what_is_no_whole_number_is_named(numbers):
    uploads, *others = numbers
    with pytest.raises(ValueError, match=r"(uploads|honest|quorum) must be a whole"):
        Trust(uploads, Decryptor.HOLDERS, *others)
