"""The key authority: what it decrypts, its budget, and what it releases."""

import dataclasses
import math

import numpy as np
import pytest

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.math import plaintexts, polynomials
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER, Kind, read
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.authority import KeyAuthority
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.fixtures import REQUESTS, UPLOADS, VALUES, sum_request

pytestmark = pytest.mark.needs_openfhe


def test_sums_of_too_few_are_refused(net):
    number, vectors = net.open(), net.vectors()
    uploads = [net.upload(client, number, v) for client, v in enumerate(vectors)]
    net.server.add(uploads[0])
    with pytest.raises(RefusedError, match=r"sum of 1 uploads .* at least 2"):
        net.authority.decrypt(net.server.sum_message())
    # The refusal does not use the round up.
    net.server.open(number)
    for upload in uploads:
        net.server.add(upload)
    net.assert_sum(net.release(), net.vectors())


def test_a_key_that_is_used_up_decrypts_no_more(network):
    # 3 ciphertexts a sum, and 8 may be decrypted: two sums.
    request = sum_request(Scheme.CKKS, 5000, 2, query_budget=8)
    net = network(request)
    assert net.parameters.rows == 3
    assert net.parameters.sums_per_key == 2
    for _ in range(2):
        assert not net.authority.used_up
        net.assert_sum(net.sum(net.vectors()), net.vectors())
        # What is refused costs nothing.
        number = net.open()
        net.add(number, net.vectors(1))
        with pytest.raises(RefusedError, match="at least 2"):
            net.authority.decrypt(net.server.sum_message())
    assert net.authority.used_up
    number = net.open()
    net.add(number, net.vectors())
    with pytest.raises(RefusedError, match="as many sums as its noise protects"):
        net.authority.decrypt(net.server.sum_message())
    net.rotate()
    assert not net.authority.used_up
    net.assert_sum(net.sum(net.vectors()), net.vectors())


@pytest.mark.parametrize("kind", ["unprotected", "exact"])
def test_keys_that_need_no_noise_are_never_used_up(network, kind):
    settings = dataclasses.replace(REQUESTS[kind].settings, query_budget=1)
    net = network(dataclasses.replace(REQUESTS[kind], settings=settings))
    for _ in range(3):
        net.assert_sum(net.sum(net.vectors()), net.vectors())
        assert not net.authority.used_up


def test_a_sum_larger_than_the_budget_is_decrypted_once(network):
    net = network(sum_request(Scheme.CKKS, VALUES, 2, query_budget=1))
    net.assert_sum(net.sum(net.vectors()), net.vectors())
    assert net.authority.used_up


def test_keys_do_not_mix(small):
    vectors = small.vectors()
    old, number = small.encryptor, small.open()
    small.add(number, vectors)
    old_sum, old_authority = small.server.sum_message(), small.authority
    small.rotate()
    number = small.open()
    upload, _ = old.encrypt(small.clients[0], SERVER, number, vectors[0])
    with pytest.raises(WireError, match="another key"):
        small.server.add(upload)
    with pytest.raises(WireError, match="another key"):
        small.authority.decrypt(old_sum)
    with pytest.raises(WireError, match="another key"):
        small.server.read_release(old_authority.decrypt(old_sum))
    small.add(number, vectors)
    new_sum = small.server.sum_message()
    with pytest.raises(WireError, match="another key"):
        old_authority.decrypt(new_sum)
    total = small.server.read_release(small.authority.decrypt(new_sum))
    small.assert_sum(total, vectors)


def test_the_trust_model_has_to_fit(network):
    net = network(SumRequest(Scheme.EXACT, 10, 4))
    party, request = net.authority_party, net.request
    for decryptor in (Decryptor.NOBODY_NEEDED, Decryptor.HOLDERS):
        with pytest.raises(ValueError, match=repr(decryptor.value)):
            KeyAuthority(party, request, Trust(4, decryptor))
    with pytest.raises(ValueError, match=r"at least 5 uploads, but .* at most 4"):
        KeyAuthority(party, request, Trust(5, Decryptor.KEY_AUTHORITY))
    threshold = SumRequest(Scheme.THRESHOLD_EXACT, 10, 4, holders=2)
    with pytest.raises(ValueError, match="a key authority decrypts threshold_exact"):
        KeyAuthority(party, threshold, Trust(4, Decryptor.KEY_AUTHORITY))


def test_releases_name_their_clients(exact):
    number = exact.open()
    for client in (2, 0):
        exact.server.add(exact.upload(client, number, exact.vectors()[client]))
    message = read(
        exact.server_party,
        exact.authority.decrypt(exact.server.sum_message()),
        Kind.RELEASED,
        payload=4 * VALUES,
        most_numbers=4,
        key_id=exact.material.key_id,
    )
    assert (message.sender, message.numbers) == (AUTHORITY, (2, 0))


def test_sums_show_the_noise_that_was_added(reals):
    vectors = reals.vectors()
    errors = [reals.sum(vectors) - vectors.sum(axis=0) for _ in range(2)]
    std = reals.parameters.error_std(UPLOADS)
    # Independent from round to round, and in every entry.
    assert np.std(errors[0] - errors[1]) == pytest.approx(math.sqrt(2) * std, rel=0.05)
    assert min(np.abs(errors[0])) < std / 100


# Noise of exact sums


def asked(net, vectors, constant=0):
    """What the server asks for: the sum, with a constant in each c0 coefficient."""
    number = net.open()
    net.add(number, vectors)
    total = net.server.take_total()
    shift = np.full((1, 1, net.ring.dimension), constant, np.uint64)
    firsts = net.ring.add(total.firsts, polynomials.evaluate(shift, net.ring))
    return total, net.forge(
        net.server_party,
        number,
        net.ring.pack(firsts) + total.parts.to_bytes(),
        kind=Kind.SUM,
        receiver=AUTHORITY,
        numbers=total.clients,
    )


def test_honest_noise_is_far_below_what_is_refused(exact):
    total, _ = asked(exact, exact.vectors())
    scheme, key = HomomorphicScheme(exact.parameters), exact.authority._secret_key
    ciphertexts = np.stack([total.firsts, total.parts.total], axis=1)
    values = scheme._decrypted(key, ciphertexts)
    largest = np.abs(plaintexts.centred(values, exact.ring)).max()
    # Of some thousand coefficients, the largest is at three to six deviations of ten.
    assert 0.3 < largest / exact.parameters.largest_coefficient(UPLOADS) < 0.6


def test_too_much_noise_is_refused_and_ends_the_key(network):
    net = network(REQUESTS["exact"])
    (q,), vectors = net.ring.moduli, net.vectors()
    limit = net.parameters.largest_coefficient(UPLOADS)
    # The first is far below the failures, from q/2, that would tell of the key.
    assert 1.05 * limit < 0.8 * q / 2
    for constant in (round(1.05 * limit), q // 2):
        _, message = asked(net, vectors, constant)
        with pytest.raises(RefusedError, match="more noise than honest uploads have"):
            net.authority.decrypt(message)
        # Whatever is asked next, it is not decrypted: there is no second answer.
        assert net.authority.used_up
        _, message = asked(net, vectors)
        with pytest.raises(RefusedError, match="as many sums as its noise protects"):
            net.authority.decrypt(message)
        net.rotate()
        net.assert_sum(net.sum(vectors), vectors)
