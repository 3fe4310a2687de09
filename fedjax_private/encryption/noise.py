"""The error of fresh ciphertexts: its variance, and a bound for all who encrypt."""

import math

# Standard deviation of fresh keys' and ciphertexts' errors.
NOISE_STD = 3.19

# OpenFHE draws errors by inversion, from a table that ends here.
_LARGEST_ERROR = 39

# A key exceeds the bound on the worst error with a probability of at most 2^-64.
_KEY_BITS = 64


def fresh_variance(dimension: int, holders: int = 1) -> float:
    """Variance of a fresh ciphertext's error, per coefficient.

    The error is `v e + e0 + s e1` with ternary v (variance 2/3) and Gaussian e, e0, e1;
    a key in n shares sums n ternary s and n Gaussian e.
    """
    return NOISE_STD**2 * (1 + 4 * dimension * holders / 3)


def worst_error(dimension: int, holders: int, uploads: int) -> float:
    """Bound on the norm of the error of one ciphertext of a sum.

    It holds for all uploads `v pk + (e0 + m, e1)` at once whose ternary v and errors
    e0, e1 lie in the ranges of OpenFHE's samplers, whoever chose them; and for
    ciphertexts of others that are sent again. It does not hold for anything else, such
    as (0, K). The error is the sum of K terms `v e + e0 + s e1`, so that

        |error| <= K sqrt(N) (|e|_op + b + b |s|_op),

    with b = 39 the largest error, and |f|_op the largest absolute value of f at the
    roots of X^N + 1, by which a product with f lengthens at most. The key's e and s are
    sums of n polynomials each, with sub-Gaussian coefficients of variance 3.19^2 and
    2/3. At each root, each of 16 directions of the plane sees a sub-Gaussian number of
    variance proxy n N/2 times that. A union bound over directions, N/2 pairs of roots,
    and both polynomials gives

        |f|_op^2 <= n variance N (ln(16 N) + 64 ln 2) / cos(pi/16)^2,

    except with probability 2^-64 over the key, whose holders follow the protocol.

    Args:
        dimension: N.
        holders: n, parts that the key is a sum of.
        uploads: K.
    """
    logarithms = math.log(16 * dimension) + _KEY_BITS * math.log(2)
    gain = math.sqrt(holders * dimension * logarithms) / math.cos(math.pi / 16)
    of_key, of_secret = NOISE_STD * gain, math.sqrt(2 / 3) * gain
    one = math.sqrt(dimension) * (of_key + _LARGEST_ERROR * (1 + of_secret))
    return uploads * one
