import math

import pytest
from hypothesis import given, settings, strategies as st

from fedjax_private.encryption.primes import is_prime, prime_above


def test_primes_below_100_000_by_sieve():
    limit = 100_000
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, math.isqrt(limit) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    assert [n for n in range(limit) if is_prime(n)] == [
        n for n in range(limit) if sieve[n]
    ]


@given(st.integers(2**20, 2**36))
@settings(deadline=None, max_examples=200)
def test_primes_by_trial_division(number):
    expected = number % 2 == 1 and all(
        number % n for n in range(3, math.isqrt(number) + 1, 2)
    )
    assert is_prime(number) == expected


@pytest.mark.parametrize("exponent", [31, 61])
def test_mersenne_primes(exponent):
    assert is_prime(2**exponent - 1)
    assert not is_prime((2**exponent - 1) ** 2 if exponent < 40 else 2**67 - 1)


@pytest.mark.parametrize(
    "number",
    [
        *(561, 1105, 1729, 294_409, 56_052_361, 118_901_521),  # Carmichael's
        # Strong pseudoprimes to the first 4, 5, 6, 8, 11 and 12 primes.
        3_215_031_751,
        2_152_302_898_747,
        3_474_749_660_383,
        341_550_071_728_321,
        3_825_123_056_546_413_051,
        318_665_857_834_031_151_167_461,
        1_152_921_504_606_830_593 * 3,
        2_147_483_647 * 2_147_483_629,
    ],
)
def test_composites_that_pass_for_primes_do_not(number):
    assert not is_prime(number)


@pytest.mark.parametrize("number", [-7, -1, 0, 1])
def test_numbers_below_two_are_not_prime(number):
    assert not is_prime(number)


@pytest.mark.parametrize(("bits", "order"), [(42, 8192), (31, 4096), (20, 64), (3, 16)])
def test_plaintext_moduli_are_the_least_that_fit(bits, order):
    found = prime_above(bits, order)
    fitting = (n for n in range(2**bits + 1, found + 1) if n % order == 1)
    assert [n for n in fitting if is_prime(n)] == [found]
