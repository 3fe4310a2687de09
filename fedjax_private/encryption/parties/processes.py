"""Main program of a process that plays server, authority or clients.

The driver (see `children`) and its processes trust each other: their pipes carry
pickled objects. Sockets carry only messages of the parties, which their receivers
check.

Formal guarantees: those of `KeyAuthority` and `KeyHolder`, here about processes. A
secret key, of a party or of a scheme, stays in the memory of the process that made it;
the server's holds its own identity's, and none that decrypts an upload.

Tests start whole federations of processes: see `tests/aggregation/test_processes.py`.
"""

import abc
import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy.typing as npt

from fedjax_private.encryption.errors import NoAnswerError, RefusedError
from fedjax_private.encryption.messages.channels import Directory, Party
from fedjax_private.encryption.messages.material import Lifetime, Material
from fedjax_private.encryption.messages.vouchers import vouched
from fedjax_private.encryption.messages.wire import (
    AUTHORITY,
    SERVER,
    Kind,
    Messages,
    kind_of,
)
from fedjax_private.encryption.parties.attendance import Attendance
from fedjax_private.encryption.parties.authority import KeyAuthority
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.encryption.parties.fusion import Fusion
from fedjax_private.encryption.parties.holders import KeyHolder
from fedjax_private.encryption.parties.server import AggregationServer
from fedjax_private.encryption.parties.sockets import Mailbox, Run, start_thread
from fedjax_private.encryption.parties.traffic import Traffic


class _Role(abc.ABC):
    """A role of a process. The driver calls the methods without an underscore."""

    def __init__(self, run: Run, mailbox: Mailbox) -> None:
        self._run, self._mailbox = run, mailbox
        self._directory: dict[int, bytes] = {}
        self._parties: dict[int, Party] = {}

    def enrol(self, *numbers: int) -> Directory:
        """Makes parties in this process; returns their public keys."""
        for number in numbers:
            party = self._parties[number] = Party(number, self._directory)
            self._directory[number] = party.identity.public
        return {number: self._directory[number] for number in numbers}

    def know(self, directory: Directory) -> None:
        """Adds the public keys of parties in other processes."""
        self._directory.update(directory)

    def listen(self, *numbers: int) -> None:
        """Answers messages to these parties, once they have a key."""
        for number in numbers:
            self._mailbox.listen(number, functools.partial(self._answer, number))

    @abc.abstractmethod
    def _answer(self, number: int, data: bytes) -> bytes:
        """Returns the answer of one of the parties to a message.

        Called in the thread of a connection.
        """

    def _decryptors_answer(
        self,
        decryptor: KeyAuthority | KeyHolder,
        data: bytes,
        decrypt: Callable[[bytes], bytes],
    ) -> bytes:
        """Returns the answer of a decryptor to a declaration or to a sum."""
        if kind_of(data) == Kind.DECLARATION:
            # Not in the main thread: it may be encrypting, and wait for a holder in
            # another process, whose main thread waits for one here.
            decryptor.declare(data)
            return b""
        return self._mailbox.in_main_thread(decrypt, data)


class _Server(_Role):
    def use(self, vouchers: Sequence[bytes]) -> None:
        run, party = self._run, self._parties[SERVER]
        facts = vouched(party, run.makers, vouchers)
        self._adding = AggregationServer(party, facts, (), run.verified)

    def open(self, round_number: int) -> None:
        self._adding.open(round_number)
        self._traffic = Traffic()

    def uploaded(self, round_number: int) -> tuple[int, ...]:
        """Returns the clients that are in the sum of a round."""
        is_open = self._adding.round_number == round_number
        return self._adding.clients if is_open else ()

    def release(
        self, round_number: int
    ) -> tuple[npt.NDArray[Any], int | None, float, Traffic]:
        """Returns the sum, holders stood in for, seconds of decryption, and traffic."""
        if self._adding.round_number != round_number:
            raise RefusedError(f"round {round_number} is not open.")
        traffic = self._traffic
        start, added = time.perf_counter(), traffic.seconds_add
        threshold = self._run.request.scheme.threshold
        recovered = None
        if threshold:
            total, recovered = self._by_holders()
        else:
            total = self._by_authority()
        seconds = time.perf_counter() - start - (traffic.seconds_add - added)
        return total, recovered, seconds, traffic

    def _answer(self, number: int, data: bytes) -> bytes:
        return self._mailbox.in_main_thread(self._add, data)

    def _add(self, data: bytes) -> bytes:
        with self._traffic.adding():
            self._adding.add(data)
        self._traffic.sent("client to server", data)
        return b""

    def _by_authority(self) -> npt.NDArray[Any]:
        with self._traffic.adding():
            message = self._adding.sum_message()
        return self._adding.read_release(self._ask("authority", AUTHORITY, message))

    def _by_holders(self) -> tuple[npt.NDArray[Any], int]:
        holders, quorum = range(self._run.request.holders), self._run.quorum
        fusion = Fusion(self._parties[SERVER], self._adding, holders, quorum)
        for answer in self._ask_holders(fusion.requests(), (NoAnswerError,)):
            fusion.add(answer)
        # A holder that has used up its answers is asked in vain.
        silent = (NoAnswerError, RefusedError)
        fusion.recover(lambda requests: self._ask_holders(requests, silent))
        return fusion.release(), fusion.recovered

    def _ask_holders(
        self, requests: Messages, silent: tuple[type[Exception], ...]
    ) -> list[bytes]:
        """Returns the answers to messages, but for those with such an error."""

        def ask(number: int) -> bytes | None:
            with contextlib.suppress(*silent):
                return self._ask("holder", number, requests[number])
            return None

        with ThreadPoolExecutor() as pool:
            return [answer for answer in pool.map(ask, requests) if answer is not None]

    def _ask(self, kind: str, number: int, message: bytes) -> bytes:
        self._traffic.sent(f"server to {kind}", message)
        answer = self._mailbox.ask(number, message)
        return self._traffic.sent(f"{kind} to server", answer)


class _Authority(_Role):
    def make_key(self, lifetime: Lifetime) -> Material:
        run, party = self._run, self._parties[AUTHORITY]
        self._key = KeyAuthority(
            party,
            run.request,
            run.trust,
            verified=run.verified,
            lifetime=lifetime,
        )
        return self._key.material

    def vouch(self, receivers: Sequence[int]) -> list[tuple[int, bytes]]:
        return list(self._key.vouch(receivers).items())

    def used_up(self) -> bool:
        return self._key.used_up

    def _answer(self, number: int, data: bytes) -> bytes:
        return self._decryptors_answer(self._key, data, self._key.decrypt)


class _Clients(_Role):
    def __init__(self, run: Run, mailbox: Mailbox) -> None:
        super().__init__(run, mailbox)
        self._holders: dict[int, KeyHolder] = {}
        threshold = run.request.scheme.threshold
        self._link = f"client to {'holder' if threshold else 'authority'}"
        self._attendance = Attendance({})

    def hold(self, number: int, lifetime: Lifetime) -> None:
        """Makes a holder for a new key, which serves these rounds."""
        run, party = self._run, self._parties[number]
        numbers = range(run.request.holders)
        self._holders[number] = KeyHolder(
            party, run.request, run.trust, numbers, run.quorum, run.verified, lifetime
        )

    def step(self, number: int, method: str, *arguments: Any) -> Any:
        """Calls a method of a holder, for `make_joint_key`."""
        return getattr(self._holders[number], method)(*arguments)

    def material(self, number: int) -> Material:
        return self._holders[number].material

    def vouch(self, receivers: Sequence[int]) -> list[tuple[int, bytes]]:
        """Returns receivers and vouchers for them, of all holders in this process."""
        return [
            item
            for holder in self._holders.values()
            for item in holder.vouch(receivers).items()
        ]

    def attend(self, answers: Mapping[int, int]) -> None:
        """Says how many messages about the sum of this round holders answer."""
        self._attendance = Attendance(answers)

    def used_up(self) -> bool:
        return any(holder.used_up for holder in self._holders.values())

    def use(self, material: bytes) -> None:
        self._encryptor = Encryptor(Material.from_bytes(material), self._run.makers)

    def admit(self, vouchers: Mapping[int, Sequence[bytes]]) -> None:
        """Has clients read that the makers of the key vouch for it."""
        for number, messages in vouchers.items():
            self._encryptor.admit(self._parties[number], messages)

    def upload(
        self, round_number: int, clients: Sequence[int], vectors: npt.NDArray[Any]
    ) -> tuple[float, Traffic]:
        """Encrypts and sends a vector of each client.

        One client at a time, because an upload may be several times as long as its
        vector.

        Returns:
            Seconds of encryption, and the declarations that were sent.
        """
        seconds, traffic, verified = 0.0, Traffic(), self._run.verified
        for client, vector in zip(clients, vectors, strict=True):
            start, party = time.perf_counter(), self._parties[client]
            upload, declarations = self._encryptor.encrypt(
                party, SERVER, round_number, vector
            )
            seconds += time.perf_counter() - start
            for decryptor, message in declarations.items() if verified else ():
                self._mailbox.ask(decryptor, traffic.sent(self._link, message))
            self._mailbox.ask(SERVER, upload)
        return seconds, traffic

    def _answer(self, number: int, data: bytes) -> bytes:
        holder, kind = self._holders[number], kind_of(data)
        if kind != Kind.DECLARATION and not self._attendance.answers(number):
            raise NoAnswerError(f"key holder {number} has vanished from this round.")
        recovery = kind == Kind.RECOVERY_REQUEST
        decrypt = holder.stand_in if recovery else holder.partially_decrypt
        return self._decryptors_answer(holder, data, decrypt)


ROLES: dict[str, type[_Role]] = {
    "server": _Server,
    "authority": _Authority,
    "clients": _Clients,
}


def main(descriptor: int) -> None:
    """Runs a process for the driver at the other end of a pipe. Does not return."""
    control = Connection(descriptor)
    name, run = control.recv()
    mailbox = Mailbox(run)
    role = ROLES[name](run, mailbox)
    start_thread(_serve_driver, control, mailbox, role, run.folder)
    mailbox.run()


def _serve_driver(
    control: Connection, mailbox: Mailbox, role: _Role, folder: str
) -> None:
    """Makes the calls of the driver, and ends the process when the driver ends."""
    try:
        while True:
            method, arguments = control.recv()
            try:
                answer = mailbox.in_main_thread(getattr(role, method), *arguments)
            except (ValueError, RuntimeError) as error:
                answer = error
            except Exception as error:
                answer = RuntimeError(f"{type(error).__name__}: {error}")
            control.send(answer)
    finally:
        # All processes end now. The main thread may be waiting for an answer from one
        # that has ended, so the process exits from here.
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[-1]))
