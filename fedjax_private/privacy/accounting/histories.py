"""The events that each client was charged, shared by clients with equal ones."""

from collections.abc import Iterable, Mapping

import numpy as np

from fedjax_private.privacy.accounting.accountant import RdpAccountant
from fedjax_private.privacy.accounting.events import Event, Neighbors, Repeated
from fedjax_private.privacy.accounting.journal import Ids


class Histories:
    """Clients' charges as states: clients with the same history share one.

    A state is a number; state 0 is that of clients who were charged nothing. A charge
    costs time in the size of its cohort and the number of distinct histories only.
    """

    def __init__(self, neighbors: Neighbors) -> None:
        self._neighbors = neighbors
        self._books = [RdpAccountant(neighbors=neighbors)]  # of each state
        self._state_of_books: dict[frozenset[tuple[Event, int]], int] = {frozenset(): 0}
        self._next: dict[tuple[int, Event, int], int] = {}
        self._clients: Ids = np.empty(0, dtype=np.int64)  # sorted
        self._states: Ids = np.empty(0, dtype=np.int64)  # of these clients
        self._cost: dict[tuple[int, float], float] = {}

    @property
    def clients(self) -> Ids:
        """The clients that were charged, sorted."""
        return self._clients

    @property
    def states(self) -> Ids:
        """The states of these clients, in the same order."""
        return self._states

    def state_of(self, client: int) -> int:
        """Returns the state of a client."""
        place = int(np.searchsorted(self._clients, client))
        if place < self._clients.size and self._clients[place] == client:
            return int(self._states[place])
        return 0

    def events(self, state: int) -> dict[Event, int]:
        """Returns the single events of a state and their counts."""
        return self._books[state].events

    def epsilon(self, state: int, delta: float) -> float:
        """Returns the epsilon of a state at `delta`."""
        key = (state, delta)
        if key not in self._cost:
            books = self._books[state]
            cost = books.epsilon(0) if delta == 0 else books.spent(delta).epsilon
            self._cost[key] = cost
        return self._cost[key]

    def largest_epsilon(self, states: Iterable[int], delta: float) -> float:
        """Returns the largest epsilon of some states; 0 where there are none."""
        events = {state: self.events(state) for state in states}
        kept: list[int] = []  # states whose events no other state contains
        for state in sorted(events, key=lambda s: -sum(events[s].values())):
            mine = events[state].items()
            if not any(
                all(events[other].get(event, 0) >= count for event, count in mine)
                for other in kept
            ):
                kept.append(state)
        return max((self.epsilon(state, delta) for state in kept), default=0.0)

    def moves(self, ids: Ids, event: Event, count: int) -> dict[int, int]:
        """Returns state -> state after a charge, for the states of some clients."""
        places = np.searchsorted(self._clients, ids)
        inside = places < self._clients.size
        inside[inside] = self._clients[places[inside]] == ids[inside]
        states = set(np.unique(self._states[places[inside]]).tolist())
        if not inside.all():
            states.add(0)
        return {state: self._after(state, event, count) for state in sorted(states)}

    def _after(self, state: int, event: Event, count: int) -> int:
        key = (state, event, count)
        if key not in self._next:
            books = self._books[state].copy().compose(Repeated(event, count))
            identity = frozenset(books.events.items())
            if identity not in self._state_of_books:
                self._state_of_books[identity] = len(self._books)
                self._books.append(books)
            self._next[key] = self._state_of_books[identity]
        return self._next[key]

    def apply(self, ids: Ids, moves: Mapping[int, int]) -> None:
        """Enters a charge; `moves` is what the method of that name returned for it."""
        if not np.isin(ids, self._clients, assume_unique=True).all():
            clients = np.union1d(self._clients, ids)
            states = np.zeros(clients.size, dtype=np.int64)
            states[np.searchsorted(clients, self._clients)] = self._states
            self._clients, self._states = clients, states
        places = np.searchsorted(self._clients, ids)
        table = np.arange(len(self._books))
        table[list(moves)] = list(moves.values())
        self._states[places] = table[self._states[places]]

    def costliest_charge(self) -> tuple[Event | None, int]:
        """Returns the charge so far with the largest epsilon at delta 1e-5."""
        costliest: tuple[Event | None, int] = (None, 1)
        highest = -1.0
        for event, count in {(event, count) for _, event, count in self._next}:
            books = RdpAccountant(neighbors=self._neighbors).compose(event, count)
            cost = books.spent(1e-5).epsilon
            if cost > highest:
                costliest, highest = (event, count), cost
        return costliest
