"""Decryption logs: which sums a key may still decrypt."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.messages.wire import AUTHORITY
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.decryption_log import DecryptionLog
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

EXACT = SumRequest(Scheme.EXACT, 9000, 4)


def log_of(request, least=2, party=None):
    material = Material(derive(request), bytes(16))
    trust = Trust(least, Decryptor.KEY_AUTHORITY)
    return DecryptionLog(party or Party(AUTHORITY, {}), material, trust)


def test_sums_of_too_few_and_too_many_uploads_are_refused():
    log = log_of(EXACT)
    with pytest.raises(RefusedError, match=r"sum of 1 uploads .* at least 2"):
        log.record(0, (0,))
    with pytest.raises(RefusedError, match=r"may wrap around: .* at most 4"):
        log.record(0, tuple(range(5)))
    # What was refused has not been recorded.
    log.record(0, (0, 1))


def test_a_round_is_recorded_once():
    log = log_of(EXACT)
    log.record(3, (0, 1))
    with pytest.raises(RefusedError, match="has decrypted in round 3 already"):
        log.record(3, (0, 1, 2))
    log.record(1, (0, 1))


def test_a_round_is_recorded_once_whatever_happens_to_keys():
    party = Party(AUTHORITY, {})
    log_of(EXACT, party=party).record(3, (0, 1, 2))
    after_rotation = log_of(EXACT, party=party)
    with pytest.raises(RefusedError, match="has decrypted in round 3 already"):
        after_rotation.record(3, (0, 1))
    after_rotation.record(4, (0, 1))


def test_of_threads_that_ask_for_one_round_one_gets_it():
    log, barrier = log_of(EXACT), threading.Barrier(8)

    def ask(number):
        barrier.wait()
        try:
            log.record(number, (0, 1))
        except RefusedError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            assert sum(pool.map(ask, [number] * 8)) == 1


def test_what_a_used_up_key_refuses_is_left_for_the_next_key():
    request = sum_request(Scheme.CKKS, 5000, 2, query_budget=1)
    party = Party(AUTHORITY, {})
    log = log_of(request, party=party)
    log.record(0, (0, 1))
    with pytest.raises(RefusedError, match="as many sums"):
        log.record(1, (0, 1))
    log_of(request, party=party).record(1, (0, 1))


def test_a_budget_counts_sums():
    request = sum_request(Scheme.CKKS, 5000, 2, query_budget=8)
    assert derive(request).sums_per_key == 2
    log = log_of(request)
    for number in range(2):
        assert not log.used_up
        log.record(number, (0, 1))
    assert log.used_up
    with pytest.raises(RefusedError, match="as many sums as its noise protects"):
        log.record(2, (0, 1))


def test_exact_sums_have_no_budget():
    log = log_of(EXACT)
    for number in range(3000):
        log.record(number, (0, 1))
    assert not log.used_up


def test_more_uploads_than_a_sum_holds_cannot_be_required():
    with pytest.raises(ValueError, match=r"at least 5 uploads, but .* at most 4"):
        log_of(EXACT, least=5)
