"""Random numbers that protect keys: from the operating system, never from a seed."""

import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import special


def words(size: int) -> npt.NDArray[np.uint64]:
    """Independent uniform 64-bit words, (size,).

    The key stream of ChaCha20 under a fresh key of the operating system's: as good
    (256 bits), and four times as fast as reading them all from there.
    """
    cipher = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * size)), np.uint64)


def gaussian(size: int, std: float) -> npt.NDArray[np.float64]:
    """Independent samples of N(0, std^2), (size,) float64.

    By inversion of 63 random bits a side, so that the tail reaches 9 standard
    deviations; the last bit of a word is the sign.
    """
    random = words(size)
    tail = (random >> np.uint64(1)).astype(np.float64)
    tail += 0.5
    tail *= 2.0**-64
    magnitude = special.ndtri(tail, out=tail)
    magnitude *= np.where(random & np.uint64(1), std, -std)
    return np.asarray(magnitude)
