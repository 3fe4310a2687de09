"""The ledger: what each client has spent, on disk before the noise is drawn.

A training phase charges the ledger before it draws its noise. `charge` returns once the
entry is on the disk, so after a crash the ledger holds every charge whose noise may
exist, and perhaps one whose noise does not: it may over-count, never under-count.

The file holds JSON lines and only grows: a header, then an entry for each phase of a
cohort with equal charges. An entry names the noise key by its SHA-256 fingerprint only;
the key itself would publish the noise.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from fedjax_private.privacy.accounting.events import Event, Neighbors
from fedjax_private.privacy.accounting.histories import Histories
from fedjax_private.privacy.accounting.journal import (
    Journal,
    client_ids,
    from_ranges,
    parse,
    readable,
    to_ranges,
)
from fedjax_private.privacy.accounting.serialization import from_dict, to_dict

_VERSION = 1


class BudgetExceeded(RuntimeError):
    """A charge would exceed the budget and was not entered: draw no noise."""


class LedgerConflict(ValueError):
    """A noise key was given for a second, different charge."""


def fingerprint(key_bytes: bytes) -> str:
    """Returns the SHA-256 of a noise key, in hexadecimal.

    Formal guarantees:
        None by itself; for a key of 128 or more random bits the fingerprint does not
        reveal the key unless SHA-256 can be inverted. A key from a 32-bit seed can be
        found by trial.
    """
    return hashlib.sha256(key_bytes).hexdigest()


class Ledger:
    """What each client has spent, under one neighbouring relation and one budget.

    Clients hold disjoint data. One client's charges compose in sequence; across clients
    the composition is parallel, so the run costs the maximum over clients.

    One process at a time can open a ledger's file; `close` it, or use `with`. A ledger
    that is open when the process ends loses nothing: its charges are on the disk.

    Formal guarantees:
        With (epsilon, delta) as the budget, every client's records are protected by
        (epsilon, delta)-DP under the relation for all phases charged so far, if each
        phase's noise is drawn after its `charge` returned and the phase is what the
        event says. Sequential composition is `RdpAccountant`'s; parallel composition
        over disjoint data is McSherry 2009, theorem 4. A replay releases the same noise
        on the same data again, which the digest attests, and so nothing new.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        neighbors: Neighbors,
        budget: tuple[float, float] | None = None,
        adversary: str | None = None,
    ) -> None:
        """Opens a ledger; reads the file if it exists.

        Args:
            path: the file, created if it does not exist; None keeps the ledger in
                memory, where a crash loses it.
            neighbors: the neighbouring relation of every charge.
            budget: (epsilon, delta) that no client may exceed, or None.
            adversary: against whom the charges are priced, in words; the header of a
                new file names it.

        Raises:
            ValueError: the file is not a ledger, is of another relation or adversary,
                or is damaged before its last line.
            BlockingIOError: another process, or another `Ledger`, has the file open.
        """
        if budget is not None and not (budget[0] >= 0 and 0 < budget[1] < 1):
            raise ValueError(
                "budget must be (epsilon, delta) with epsilon >= 0 and 0 < delta < 1, "
                f"got {budget}."
            )
        self._neighbors = neighbors
        self._budget, self._adversary = budget, adversary
        self._histories = Histories(neighbors)
        self._used: dict[str, bytes] = {}  # fingerprint -> hash of its entry
        self._journal: Journal | None = None
        if path is not None:
            self._journal = Journal(os.fspath(path))
            try:
                self._read(self._journal, os.fspath(path))
            except BaseException:
                self._journal.close()
                raise

    def charge(
        self,
        *,
        clients: Sequence[int],
        round_number: int,
        event: Event,
        fingerprint: str,
        digest: str,
        count: int = 1,
    ) -> bool:
        """Charges each client of a cohort for one phase; call it before drawing noise.

        Args:
            clients: the clients' ids, each a whole number of 0 or more.
            round_number: the round.
            event: the event that each of them is about to run, `count` times.
            fingerprint: of the phase's noise key; see `fingerprint`.
            digest: of everything else that determines the phase's output: params,
                shards, sample key and plan.
            count: how many times the event is run.

        Returns:
            True if the charge was entered; False if the same entry (clients, round,
            event, count and digest) exists under this fingerprint: a replay, which
            reveals nothing new and costs nothing.

        Raises:
            LedgerConflict: the fingerprint was charged for another entry. The same
                noise on other data cancels, so draw a fresh key.
            BudgetExceeded: some client would exceed the budget; nothing was entered.
            Unsupported: the event has no price under the relation.

        Formal guarantees:
            On return the entry is on the disk (fsync). See the class.
        """
        ids = client_ids(clients)
        if not ids.size:
            raise ValueError("clients must hold at least one id.")
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}.")
        if not fingerprint:
            raise ValueError("fingerprint must be that of the noise key, got none.")
        entry = {
            "event": to_dict(event),
            "count": int(count),
            "clients": to_ranges(ids),
            "round": int(round_number),
            "fingerprint": fingerprint,
            "digest": digest,
        }
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False)
        identity = hashlib.sha256(line.encode()).digest()
        used = self._used.get(fingerprint)
        if used is not None:
            if used == identity:
                return False
            raise LedgerConflict(
                f"round {round_number}: the noise key {fingerprint[:12]}... has been "
                "charged for another phase (other clients, round, event, count or "
                "digest); the same noise on other data would subtract out."
            )
        moves = self._histories.moves(ids, event, count)
        self._check_budget(moves, round_number)
        if self._journal is not None:
            self._journal.append(line)
        self._histories.apply(ids, moves)
        self._used[fingerprint] = identity
        return True

    def epsilon(self, delta: float) -> float:
        """Returns the largest epsilon of any client; 0 where nothing was charged."""
        states = np.unique(self._histories.states).tolist()
        return self._histories.largest_epsilon(states, delta)

    def epsilons(self, delta: float) -> dict[int, float]:
        """Returns every charged client's epsilon at `delta`."""
        clients = self._histories.clients.tolist()
        states = self._histories.states.tolist()
        return {
            client: self._histories.epsilon(state, delta)
            for client, state in zip(clients, states, strict=True)
        }

    def events_of(self, client: int) -> dict[Event, int]:
        """Returns what a client was charged: single events and their counts."""
        return self._histories.events(self._histories.state_of(client))

    def close(self) -> None:
        """Closes the file; no charge is possible afterwards."""
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_budget(self, moves: Mapping[int, int], round_number: int) -> None:
        if self._budget is None:
            return
        limit, delta = self._budget
        cost = self._histories.largest_epsilon(set(moves.values()), delta)
        if cost > limit:
            raise BudgetExceeded(
                f"round {round_number}: a client would reach epsilon {cost:.4g} at "
                f"delta {delta:g}, above the budget of {limit:g}; nothing was charged."
            )

    def _read(self, journal: Journal, path: str) -> None:
        lines, tail = journal.read()
        fields = {"ledger": _VERSION, "neighbors": self._neighbors.value}
        if self._adversary is not None:
            fields["adversary"] = self._adversary
        header = json.dumps(fields, separators=(",", ":"))
        if not lines:
            # New, or cut off within its header: no charge ever returned.
            if not header.startswith(tail):
                raise ValueError(f"{path} is not a ledger.")
            journal.append(header[len(tail) :])
            return
        kept = parse(lines[0])
        if kept is None or kept.get("ledger") != _VERSION:
            raise ValueError(f"{path} is not a ledger of version {_VERSION}.")
        if kept["neighbors"] != self._neighbors.value:
            raise ValueError(
                f"{path} is a ledger of neighbors={kept['neighbors']}, not of "
                f"{self._neighbors.value}: charges under the two do not add up."
            )
        adversary = kept.get("adversary", self._adversary)
        if None not in (adversary, self._adversary) and adversary != self._adversary:
            raise ValueError(
                f"{path} is a ledger of adversary={adversary}, not of "
                f"{self._adversary}: charges against the two do not add up."
            )
        fragment: str | None = None  # an unreadable line; only a repair may follow
        for number, line in enumerate([*lines[1:], tail] if tail else lines[1:], 2):
            entry = parse(line)
            if entry is None:
                fragment = line if fragment is None else fragment
            elif fragment is not None and "repairs" not in entry:
                raise ValueError(f"{path} is damaged before line {number}.")
            else:
                fragment = None
                self._enter(entry, line)
        if tail:
            journal.append("")  # ends the line that was cut off
        if fragment is not None:
            line = self._repair(fragment)
            journal.append(line)
            self._enter(json.loads(line), line)

    def _enter(self, entry: Mapping[str, Any], line: str) -> None:
        ids = from_ranges(entry["clients"])
        if ids.size:
            event, count = from_dict(entry["event"]), entry["count"]
            self._histories.apply(ids, self._histories.moves(ids, event, count))
        if "fingerprint" in entry:
            self._used[entry["fingerprint"]] = hashlib.sha256(line.encode()).digest()

    def _repair(self, fragment: str) -> str:
        """Returns an entry that charges at least as much as one that was cut off.

        It takes from the fragment all that can be read. If the clients cannot be read,
        it charges every known client; if the event cannot, it charges the costliest so
        far. If nothing was charged before and the fragment names no event, no noise
        was ever drawn, since no `charge` returned.
        """
        event, count = self._histories.costliest_charge()
        clients = to_ranges(self._histories.clients)
        fields = readable(fragment)
        if "event" in fields:
            event, count = from_dict(fields["event"]), fields.get("count", count)
            clients = fields.get("clients", clients)
        entry = {
            "repairs": "the line above, cut off by a crash",
            "event": to_dict(event) if event is not None else None,
            "count": count,
            "clients": clients if event is not None else "",
        }
        return json.dumps(entry, separators=(",", ":"), allow_nan=False)
