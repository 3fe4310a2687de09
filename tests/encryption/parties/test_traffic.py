"""Counting of messages: their bytes by link, and by sender."""

from fedjax_private.encryption.parties.traffic import Traffic


def test_messages_are_counted_by_link():
    traffic = Traffic()
    assert traffic.sent("client to server", b"abc") == b"abc"
    traffic.sent("client to server", b"a")
    traffic.sent("server to holder", b"ab", b"parts")
    assert traffic.per_message() == {"client to server": 2, "server to holder": 7}


def test_counts_of_several_processes_are_put_together():
    traffic, other = Traffic(), Traffic()
    traffic.sent("client to server", bytes(10))
    other.sent("client to server", bytes(20))
    other.sent("client to holder", bytes(4))
    other.sent("holder to server", bytes(8))
    other.seconds_add = 2.0
    traffic.include(other)
    assert traffic.bytes_from("client") == 34
    assert traffic.bytes_from("server") == 0
    assert traffic.per_message()["client to server"] == 15
    assert traffic.seconds_add == 2.0
