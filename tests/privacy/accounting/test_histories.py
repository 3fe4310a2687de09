"""Clients with the same charges share a state."""

import numpy as np

from fedjax_private.privacy.accounting import Gaussian, Neighbors, RdpAccountant
from fedjax_private.privacy.accounting.histories import Histories

ADD, DELTA = Neighbors.ADD_REMOVE, 1e-5


def charged(*charges):
    histories = Histories(ADD)
    for clients, event, count in charges:
        ids = np.array(clients)
        histories.apply(ids, histories.moves(ids, event, count))
    return histories


def test_the_order_of_charges_does_not_matter():
    histories = charged(
        ([0, 5], Gaussian(2.0), 3), ([0, 7], Gaussian(3.0), 1), ([7], Gaussian(2.0), 3)
    )
    assert histories.clients.tolist() == [0, 5, 7]
    assert histories.state_of(0) == histories.state_of(7) != histories.state_of(5)
    assert histories.events(histories.state_of(7)) == {Gaussian(2): 3, Gaussian(3): 1}
    assert histories.state_of(6) == 0 and histories.events(0) == {}


def test_moves_change_nothing_until_they_are_applied():
    histories = charged(([1], Gaussian(2.0), 1))
    moves = histories.moves(np.array([1, 2]), Gaussian(2.0), 2)
    assert set(moves) == {0, histories.state_of(1)}
    assert histories.clients.tolist() == [1]


def test_the_largest_epsilon_is_that_of_the_costliest_state():
    histories = charged(([1, 2], Gaussian(2.0), 3), ([2, 3], Gaussian(0.9), 1))
    states = set(histories.states.tolist())
    right = max(histories.epsilon(state, DELTA) for state in states)
    assert histories.largest_epsilon(states, DELTA) == right
    assert histories.largest_epsilon([], DELTA) == 0.0


def test_the_costliest_charge_is_a_single_one():
    histories = charged(([1], Gaussian(2.0), 3), ([1], Gaussian(9.0), 1))
    assert histories.costliest_charge() == (Gaussian(2.0), 3)
    assert charged().costliest_charge() == (None, 1)
    books = RdpAccountant(neighbors=ADD).compose(Gaussian(2.0), 3)
    books.compose(Gaussian(9.0))
    assert histories.epsilon(histories.state_of(1), DELTA) == books.epsilon(DELTA)
