"""Prime numbers: moduli of polynomials and of plaintexts."""

import functools


@functools.lru_cache(maxsize=64)
def prime_above(bits: int, modulus: int) -> int:
    """The least prime above 2^bits that is 1 mod `modulus`, a power of two."""
    candidate = 2**bits + 1
    while candidate % modulus != 1 or not is_prime(candidate):
        candidate += modulus
        candidate -= (candidate - 1) % modulus
    return candidate


def is_prime(number: int) -> bool:
    """Whether a number below 3e24 is prime (Miller-Rabin with these bases is exact)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if number < 2 or any(number % p == 0 for p in bases):
        return number in bases
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True
