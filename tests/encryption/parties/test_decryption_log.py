"""Decryption logs: which sums a key may still decrypt."""

import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.messages.material import Material
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.decryption_log import DecryptionLog
from fedjax_private.trust import Decryptor, Trust
from tests.encryption.fixtures import sum_request

EXACT = SumRequest(Scheme.EXACT, 9000, 4)


def log_of(request, least=2):
    material = Material(derive(request), bytes(16))
    return DecryptionLog(material, Trust(least, Decryptor.KEY_AUTHORITY))


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
    with pytest.raises(RefusedError, match="round 3 has been decrypted already"):
        log.record(3, (0, 1, 2))
    log.record(1, (0, 1))


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
