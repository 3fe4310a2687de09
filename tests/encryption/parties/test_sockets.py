"""Mailboxes: messages and answers by sockets, and connections that are rejected.

`tests/aggregation/test_processes.py` tests them between processes.
"""

import dataclasses
import multiprocessing
import os
import threading
from multiprocessing.connection import Client

import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.wire import MAGIC, SERVER, size
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.sockets import Mailbox, Run
from fedjax_private.trust import Decryptor, Trust

REQUEST = SumRequest(Scheme.EXACT, 100, 3)
TRUST = Trust(2, Decryptor.KEY_AUTHORITY)


@pytest.fixture
def run(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("run"))  # short: it is part of an address
    return Run(folder, b"key of the run", REQUEST, TRUST, quorum=1, verified=True)


@pytest.fixture
def mailbox(run):
    """A mailbox whose calls are made, and which answers messages to the server."""
    mailbox, mailbox.read = Mailbox(run), []
    threading.Thread(target=mailbox.run, daemon=True).start()

    def answer(data):
        mailbox.read.append(data)
        if data == b"bad":
            raise ValueError("this is refused.")
        if data == b"too large":
            raise MemoryError
        return MAGIC + data if data else b""

    mailbox.listen(SERVER, answer)
    return mailbox


def test_a_message_gets_its_answer(run, mailbox):
    other = Mailbox(run)
    assert other.ask(SERVER, b"hello") == MAGIC + b"hello"
    assert other.ask(SERVER, b"") == b""


def test_a_refusal_arrives_in_the_receivers_words(run, mailbox):
    with pytest.raises(RefusedError, match=r"^this is refused\.$"):
        Mailbox(run).ask(SERVER, b"bad")


def test_an_error_without_a_sentence_is_no_consent(run, mailbox):
    with pytest.raises(RefusedError, match=r"^MemoryError$"):
        Mailbox(run).ask(SERVER, b"too large")


def test_a_party_that_does_not_listen_does_not_answer(run):
    with pytest.raises(RuntimeError, match="the server does not answer"):
        Mailbox(run).ask(SERVER, b"hello")
    with pytest.raises(RuntimeError, match="key holder 7 does not answer"):
        Mailbox(run).ask(7, b"hello")


def test_connections_without_the_runs_key_are_rejected(run, mailbox):
    address = os.path.join(run.folder, str(SERVER))
    with pytest.raises(multiprocessing.AuthenticationError):
        Client(address, authkey=b"another key")
    assert mailbox.read == []


def test_a_stranger_who_says_nothing_keeps_nobody_waiting(run, mailbox):
    with Client(os.path.join(run.folder, str(SERVER))):
        assert Mailbox(run).ask(SERVER, b"hello") == MAGIC + b"hello"


def test_the_longest_message_is_read_and_no_longer_one(run, mailbox):
    half = derive(REQUEST).rows * derive(REQUEST).polynomial_bytes
    assert run.longest == size(3, 4 * half)
    assert dataclasses.replace(run, verified=False).longest == size(3, 2 * half)
    longest = bytes(run.longest)
    address = os.path.join(run.folder, str(SERVER))
    with Client(address, authkey=run.authkey) as connection:
        connection.send_bytes(longest)
        assert connection.recv_bytes() == MAGIC + longest
    with (
        Client(address, authkey=run.authkey) as connection,
        pytest.raises((EOFError, OSError)),  # as soon as its length is known
    ):
        connection.send_bytes(longest + b"\0")
        connection.recv_bytes()
    assert mailbox.read == [longest]


def test_errors_of_calls_in_the_main_thread_are_raised_in_the_caller(mailbox):
    assert mailbox.in_main_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        mailbox.in_main_thread(divmod, 1, 0)
