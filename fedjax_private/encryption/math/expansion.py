"""Arrays expanded from a seed: the same for everybody who knows it. NumPy only.

A stream is the key stream of ChaCha20 (RFC 8439) under a 256-bit seed, such as a hash.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fedjax_private.encryption.math.rings import Residues, Ring

# Number of bytes -> as many random ones.
Draw = Callable[[int], bytes]


def uniform_polynomial(seed: bytes, ring: Ring) -> Residues:
    """Returns a polynomial (L, N) of R_q that is uniform if the seed is.

    Formal guarantees: as good as ChaCha20 is a pseudo-random generator. Uniform values
    are uniform coefficients, so it does not matter which of the two they are.

    Args:
        seed: 32 bytes.
        ring: the moduli and the dimension.
    """
    draw = stream(seed)
    return np.stack([below(q, ring.dimension, draw) for q in ring.moduli])


def signs(seed: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """Returns independent entries: 0 with probability 1/2, -1 and 1 with 1/4 each.

    Args:
        seed: 32 bytes.
        shape: of the array; its size must be a multiple of four.
    """
    data = stream(seed)(int(np.prod(shape)) // 4)
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).view(np.int8).reshape(2, -1)
    return (bits[0] - bits[1]).reshape(shape)


def below(modulus: int, size: int, draw: Draw) -> npt.NDArray[np.uint64]:
    """Returns values (size,), uint64, uniform below `modulus`.

    Draws words with as many bits as the modulus and drops those that are too large.
    Reducing them instead would favour small values.
    """
    mask = np.uint64(2 ** (modulus - 1).bit_length() - 1)
    values = np.empty(0, np.uint64)
    while values.size < size:
        words = np.frombuffer(draw(8 * (size - values.size)), "<u8") & mask
        values = np.concatenate([values, words[words < np.uint64(modulus)]])
    return values


def stream(seed: bytes) -> Draw:
    """Returns a function that reads on in the stream of a seed of 32 bytes."""
    encryptor = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return lambda size: encryptor.update(bytes(size))
