"""Encrypted sums by OpenFHE's Python bindings alone, to read and to compare with.

Keys, encoding, encryption, addition, partial decryption, fusion and decoding are calls
of OpenFHE, at the parameters that `parameters.derive` gives. Own arithmetic is left
where no binding serves: lanes (several whole numbers in one of OpenFHE's), a scale that
is no power of two, and the width of noise, which OpenFHE fixes.

`openfhe.schemes` does the same on arrays of residues, and is what runs use by default.
Values stand in the same ciphertexts in both, in other slots: OpenFHE's slots are points
at which polynomials are evaluated, those of exact sums in `math.plaintexts` are
coefficients.

CKKS: Cheon, Kim, Kim and Song (ASIACRYPT 2017). BGV: Brakerski, Gentry and
Vaikuntanathan (ITCS 2012). BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (2012).
Shares of keys: Asharov et al. (EUROCRYPT 2012).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.openfhe.contexts import Context, context_for
from fedjax_private.encryption.parameters import Parameters

# OpenFHE's classes have no type stubs; these names say which class is meant.
Ciphertext = Any
Plaintext = Any
PublicKey = Any
SecretKey = Any

# Standard deviation of the noise that OpenFHE adds to each coefficient of a partial
# decryption, whatever the parameters: MP_SD in its source.
OWN_STD = 2.0**20

# A term of noise is at most so many times as wide as the one before. The wider term has
# gaps of its factor, which the narrower one fills: at a quarter of its deviation, they
# change the distribution of the sum by less than 2^-400.
_WIDENING = 2**18


@dataclasses.dataclass(frozen=True)
class Keys:
    """The keys of one run, which only a simulation holds in one place.

    Attributes:
        parameters: of the sums.
        context: OpenFHE's, of these parameters.
        public: the public key.
        secrets: the secret key; or the holders' shares, whose sum it is.
    """

    parameters: Parameters
    context: Context
    public: PublicKey
    secrets: tuple[SecretKey, ...]


def check(parameters: Parameters) -> None:
    """Raises ValueError if decryptions need less noise than OpenFHE adds to each."""
    std = parameters.flooding_std
    if 0 < std < 16 * OWN_STD:
        raise ValueError(
            f"OpenFHE adds noise of deviation {OWN_STD:.2g} to every decryption, and "
            f"these parameters ask for {std:.2g} only: give more statistical_bits, a "
            "larger query_budget, or leave arithmetic out."
        )


def generate(parameters: Parameters) -> Keys:
    """Returns fresh keys; shares of a key are made one after the other.

    Holders must follow the protocol: the last could choose the joint key, because none
    has committed to its share before. `parties.joint_key` has that, and more.

    Call it in the main thread: OpenFHE's first encoding can hang in another.

    Raises:
        OpenFHEUnavailable: where OpenFHE cannot be imported.
        ValueError: as `check` does.
    """
    check(parameters)
    backend = load()
    backend.check_process()
    openfhe = backend.openfhe
    # OpenFHE's decoding of real slots adds noise as large as it finds in their
    # imaginary parts, where the noise that we add stands too. Of complex slots with
    # imaginary parts zero, it adds none.
    settings = dataclasses.replace(parameters.request.settings, packing="complex")
    request = dataclasses.replace(parameters.request, settings=settings)
    context = context_for(openfhe, dataclasses.replace(parameters, request=request))
    # Partial decryption is the only binding that adds noise to a polynomial.
    context.Enable(openfhe.MULTIPARTY)
    pair = context.KeyGen()
    secrets = [pair.secretKey]
    for _ in range(parameters.request.holders - 1):
        # Adds a share to the joint key so far.
        pair = context.MultipartyKeyGen(pair.publicKey)
        secrets.append(pair.secretKey)
    return Keys(parameters, context, pair.publicKey, tuple(secrets))


def encrypt(keys: Keys, vector: npt.NDArray[Any]) -> list[Ciphertext]:
    """Returns the ciphertexts of a vector (values,) under the public key.

    Formal guarantees: those of OpenFHE's public-key encryption, IND-CPA against whoever
    lacks the secret keys, under ring learning with errors at 128 bits.

    Args:
        keys: of which the public one is used.
        vector: floats within the declared bound for CKKS; whole numbers if exact.
    """
    load().check_process()
    return [
        keys.context.Encrypt(keys.public, plaintext)
        for plaintext in encode(keys, vector)
    ]


def add(keys: Keys, uploads: Sequence[Sequence[Ciphertext]]) -> list[Ciphertext]:
    """Returns the ciphertexts of the sum of vectors, given by their ciphertexts."""
    # EvalAdd, and not EvalAddMany, which adds up ciphertexts of different keys as well.
    add_two = keys.context.EvalAdd
    return [functools.reduce(add_two, row) for row in zip(*uploads, strict=True)]


def size_of(ciphertexts: Sequence[Ciphertext]) -> int:
    """Returns the bytes of ciphertexts, as OpenFHE serialises them."""
    openfhe = load().openfhe
    return sum(len(openfhe.Serialize(each, openfhe.BINARY)) for each in ciphertexts)


def decrypt(keys: Keys, total: Sequence[Ciphertext]) -> npt.NDArray[Any]:
    """Returns the vector (values,) of a sum: float64, or signed whole numbers, int64.

    Whole numbers are true sums, or in [-2^(b-1), 2^(b-1)) where the request asks for
    residues mod 2^b.

    Formal guarantees: those of `HomomorphicScheme.decrypt(flooded=True)`, or of
    `HomomorphicScheme.partially_decrypt` for each holder: in all schemes but `exact`,
    noise of deviation `Parameters.flooding_std` hides the error of the sum. Without
    `protect`, `ckks` has none, and its sums are for those who hold the key.
    """
    load().check_process()
    context, shares = keys.context, keys.secrets
    plaintexts = []
    for ciphertext in total:
        if not keys.parameters.flooding_std:
            plaintext = context.Decrypt(shares[0], ciphertext)
        else:
            # Also where one key decrypts: its noise is added as that of holders is.
            parts = [partially_decrypt(keys, i, ciphertext) for i in range(len(shares))]
            plaintext = context.MultipartyDecryptFusion(parts)
        plaintexts.append(plaintext)
    return decode(keys, plaintexts)


def partially_decrypt(keys: Keys, holder: int, ciphertext: Ciphertext) -> Ciphertext:
    """Returns a holder's part of a decryption, with noise of deviation `flooding_std`.

    OpenFHE adds noise of deviation 2^20, and no binding takes another. A partial
    decryption of (0, 0) is that noise alone, so multiples of it widen it.

    Formal guarantees: the noise is a discrete Gaussian of that deviation, up to a
    factor of 1 + 2^-400 of each probability (convolutions of discrete Gaussians:
    Micciancio and Peikert, CRYPTO 2013), as far as OpenFHE's sampler is one. So what
    `Parameters.flooding_std` says of statistical distances holds.

    Args:
        keys: with the holder's share.
        holder: its place; the first one's part includes `c0`.
        ciphertext: of a sum.
    """
    context, secret = keys.context, keys.secrets[holder]
    if holder == 0:
        (part,) = context.MultipartyDecryptLead([ciphertext], secret)
    else:
        (part,) = context.MultipartyDecryptMain([ciphertext], secret)
    # OpenFHE's own noise is the first term of the variance.
    widest = math.ceil(math.sqrt((keys.parameters.flooding_std / OWN_STD) ** 2 - 1))
    zero, factor = context.EvalSub(ciphertext, ciphertext), 1
    while factor < widest:
        factor = min(widest, factor * _WIDENING)
        (noise,) = context.MultipartyDecryptMain([zero], secret)
        part = context.EvalAdd(part, _multiple(context, noise, factor))
    return part


def encode(keys: Keys, vector: npt.NDArray[Any]) -> list[Plaintext]:
    """Returns the plaintexts of a vector (values,), as for `encrypt`.

    Raises:
        ValueError: if the vector has another shape, or an entry that is out of range or
            not finite.
    """
    parameters, context = keys.parameters, keys.context
    request = parameters.request
    if vector.shape != (request.values,):
        raise ValueError(
            f"a vector of shape {vector.shape} where ({request.values},) was declared."
        )
    exact, lane_bits = request.scheme.exact, parameters.lane_bits
    padded: npt.NDArray[Any] = np.zeros(
        parameters.rows * parameters.values_per_ciphertext,
        np.int64 if exact else np.float64,
    )
    padded[: vector.size] = vector
    # With noise, entries have no bound but that of 64 bits.
    bound = np.finfo(np.float64).max if request.residues else request.value_bound
    if exact:
        most = 2 ** (62 - lane_bits * (parameters.lanes - 1))
        bound = most if request.residues else 2 ** (request.bits - 1) - 1
    # Comparisons with NaN are false.
    if not np.abs(padded).max() <= bound:
        raise ValueError(
            f"vectors with entries within {bound:g} were declared, got one with "
            f"{np.abs(padded).max():g}: the training may have diverged; give a lower "
            "learning_rate or a larger value_bound."
        )
    if exact:
        # Whole numbers in lanes are the digits of one, the first lane's the lowest.
        shape = parameters.rows, parameters.lanes, parameters.slots
        base, t = 1 << lane_bits, parameters.plaintext_modulus
        lanes = padded.reshape(shape).swapaxes(0, 1)
        rows = functools.reduce(lambda high, low: high * base + low, lanes[::-1])
        centred = (rows + t // 2) % t - t // 2
        return [context.MakePackedPlaintext(row) for row in centred]
    if request.complex_packing:
        padded = padded[0::2] + 1j * padded[1::2]
    rows = padded.reshape(parameters.rows, parameters.slots) * _rescaling(keys) + 0j
    return [context.MakeCKKSPackedPlaintext(row) for row in rows]


def decode(keys: Keys, plaintexts: Sequence[Plaintext]) -> npt.NDArray[Any]:
    """Returns the vector (values,) that plaintexts hold, as `decrypt` does."""
    parameters = keys.parameters
    request = parameters.request
    for plaintext in plaintexts:
        plaintext.SetLength(parameters.slots)
    if not request.scheme.exact:
        rows = np.stack([p.GetCKKSPackedValueArray() for p in plaintexts])
        slots = (rows / _rescaling(keys)).reshape(-1)
        if not request.complex_packing:
            return slots.real[: request.values].copy()
        return slots.view(np.float64)[: request.values]
    rest = np.stack([p.GetPackedValueArray() for p in plaintexts])
    base, lanes = 1 << parameters.lane_bits, []
    for _ in range(parameters.lanes):
        digit = (rest + base // 2) % base - base // 2
        lanes.append(digit)
        rest = (rest - digit) // base
    total = np.stack(lanes, axis=1).reshape(-1)[: request.values]
    half = 2 ** (request.bits - 1)
    return (total + half) % (2 * half) - half if request.residues else total


def _rescaling(keys: Keys) -> float:
    """What values are multiplied by, for OpenFHE to encode them at our scale."""
    plaintext = keys.context.MakeCKKSPackedPlaintext([0.0])
    return float(keys.parameters.scale / plaintext.GetScalingFactor())


def _multiple(context: Context, ciphertext: Ciphertext, factor: int) -> Ciphertext:
    """Returns a ciphertext times a positive number, by additions: BFV binds no more."""
    total = ciphertext
    for bit in f"{factor:b}"[1:]:
        total = context.EvalAdd(total, total)
        if bit == "1":
            total = context.EvalAdd(total, ciphertext)
    return total
