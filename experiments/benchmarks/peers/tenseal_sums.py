"""Encrypted sums with TenSEAL, with the parameters that NVFlare sets."""

from typing import Any

import numpy as np
import tenseal
from work import Work, staged

# NVFlare's HEBuilder.
DEGREE = 8192
MODULUS_BITS = (60, 40, 40)
SCALE = 2.0**40
SLOTS = DEGREE // 2

# Further clients' uploads repeat these, which saves encrypting them.
DISTINCT = 4


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `tenseal` (one secret key) or `tenseal_public_key`."""
    parameters, clients = case["parameters"], case["clients"]
    kinds = tenseal.ENCRYPTION_TYPE
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=list(MODULUS_BITS),
        encryption_type=kinds.SYMMETRIC if peer == "tenseal" else kinds.ASYMMETRIC,
        n_threads=threads,
    )
    context.global_scale = SCALE
    # Of the magnitude of model updates.
    rng = np.random.default_rng(0)
    shape = (min(clients, DISTINCT), parameters)
    vectors = 0.1 * rng.standard_normal(shape, np.float32)
    uploads = [encrypt(context, vector) for vector in vectors]
    uploads = [uploads[k % len(uploads)] for k in range(clients)]
    call = staged(
        lambda _: encrypt(context, vectors[0]),
        lambda _: add(context, uploads),
        decrypt,
    )
    warmup = sum(call())
    expected = sum(vectors[k % len(vectors)].astype(float) for k in range(clients))
    errors = np.abs(decrypt(add(context, uploads)) - expected)
    about = {
        "variant": "one secret key" if peer == "tenseal" else "public key",
        "warmup_seconds": warmup,
        "bytes_per_parameter": sum(map(len, uploads[0])) / parameters,
        "max_error": float(errors.max()),
    }
    return Work(call, about)


def encrypt(context: tenseal.Context, vector: np.ndarray) -> list[bytes]:
    """The client: one ciphertext for each chunk of slots, serialised."""
    chunks = [vector[i : i + SLOTS] for i in range(0, len(vector), SLOTS)]
    return [tenseal.ckks_vector(context, chunk).serialize() for chunk in chunks]


def add(context: tenseal.Context, uploads: list[list[bytes]]) -> list[Any]:
    """The server: parses every upload, and adds it to the sum."""
    total: list[Any] = []
    for upload in uploads:
        parsed = [tenseal.ckks_vector_from(context, chunk) for chunk in upload]
        if total:
            for mine, other in zip(total, parsed, strict=True):
                mine.add_(other)
        else:
            total = parsed
    return total


def decrypt(total: list[Any]) -> np.ndarray:
    """The holder of the secret key: (N,) float64."""
    return np.concatenate([chunk.decrypt() for chunk in total])
