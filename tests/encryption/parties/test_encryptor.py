"""Encryptors: the vectors that they take, and the size of uploads."""

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.wire import FIRST_EDGE, SERVER
from fedjax_private.encryption.parties.encryptor import Encryptor
from fedjax_private.quantization import NOT_FINITE
from tests.encryption.fixtures import VALUES

pytestmark = pytest.mark.needs_openfhe


def test_value_bound_is_enforced_at_its_edge(reals):
    vector = np.zeros(VALUES)
    bound = reals.request.value_bound
    for edge in (bound, -bound):
        vector[-1] = edge
        reals.upload(0, 0, vector)
        vector[-1] = np.nextafter(edge, 2 * edge)
        with pytest.raises(ValueError, match=r"client 3: .*declared bound of 2: "):
            reals.upload(3, 0, vector)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_refused(reals, value, dtype):
    vector = np.zeros(VALUES, dtype)
    vector[3] = value
    with pytest.raises(ValueError, match=r"client 3: .*not finite"):
        reals.upload(3, 0, vector)


@pytest.mark.parametrize("value", [-(2**15), 2**15, 2**40])
def test_whole_numbers_out_of_range_are_refused(exact, value):
    vector = np.zeros(VALUES, np.int64)
    vector[3] = value
    with pytest.raises(ValueError, match=r"client 0: .*bound of 32767: .*codec"):
        exact.upload(0, 0, vector)


@pytest.mark.parametrize("shape", [(VALUES - 1,), (VALUES + 1,), (1, VALUES), (), (0,)])
def test_vectors_of_other_shapes_are_refused(net, shape):
    with pytest.raises(ValueError, match="was declared"):
        net.upload(0, 0, np.zeros(shape))


def test_what_stands_for_no_number_is_refused(exact):
    vector = np.zeros(VALUES, np.int32)
    vector[3] = NOT_FINITE
    with pytest.raises(ValueError, match=r"client 3: .*not finite.*learning_rate"):
        exact.upload(3, 0, vector)


def test_impossible_numbers_are_refused(exact):
    vector = np.zeros(VALUES, np.int64)
    for number in (-1, 2**64):
        with pytest.raises(WireError, match="do not fit"):
            exact.upload(0, number, vector)
    for client in (-1, 2**64):
        party = exact.party(client)
        with pytest.raises(WireError, match="do not fit"):
            exact.authority.vouch([client])
        with pytest.raises(RefusedError, match="not vouched"):
            exact.encryptor.encrypt(party, SERVER, 0, vector)


def test_a_client_uploads_once_a_round_whatever_happens_to_keys(small):
    party, vector = small.clients[0], np.zeros(10, np.int64)
    wrong = np.zeros(11, np.int64)
    with pytest.raises(ValueError, match="was declared"):
        small.encryptor.encrypt(party, SERVER, 0, wrong)
    # What could not be encrypted is no upload.
    small.encryptor.encrypt(party, SERVER, 0, vector)
    small.rotate()
    for receiver in (SERVER, FIRST_EDGE):
        small.party(receiver)
        with pytest.raises(RefusedError, match="party 0 has declared in round 0"):
            small.encryptor.encrypt(party, receiver, 0, vector)
    small.encryptor.encrypt(party, SERVER, 1, vector)
    small.encryptor.encrypt(small.clients[1], SERVER, 0, vector)


def test_length_does_not_depend_on_the_values(net):
    lengths = {
        len(net.upload(0, 0, 0 * net.vectors()[0])),
        len(net.upload(1, 2**63, net.vectors()[0])),
    }
    assert len(lengths) == 1


def test_encryptors_need_a_public_key(exact):
    with pytest.raises(WireError, match="without a public key"):
        Encryptor(exact.material.without_key())
