"""One encrypted image through the MNIST network of TenSEAL's tutorial.

A convolution of 4 maps (7x7, stride 3), a square, 64 hidden units, a square, 10 scores;
the parameters are the tutorial's too.
"""

from typing import Any

import cases
import numpy as np
import tenseal
from work import Work, staged

DEGREE = 8192
MODULUS_BITS = (31, 26, 26, 26, 26, 26, 26, 31)
SCALE = 2.0**26
MAPS, KERNEL, STRIDE, HIDDEN = 4, 7, 3, 64
WINDOWS = ((cases.IMAGE[0] - KERNEL) // STRIDE + 1) ** 2

SHAPES = {
    "conv": (KERNEL, KERNEL, MAPS),
    "hidden": (MAPS * WINDOWS, HIDDEN),
    "scores": (HIDDEN, cases.CLASSES),
}


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `tenseal`; the server has the client's public context only."""
    if case["images"] != 1:
        raise ValueError(f"images must be 1 for peers, got {case['images']}.")
    image = np.random.default_rng(0).random(cases.IMAGE[:2])
    client = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=list(MODULUS_BITS),
        n_threads=threads,
    )
    client.global_scale = SCALE
    client.generate_galois_keys()
    public = client.serialize(save_secret_key=False)
    server = tenseal.context_from(public, n_threads=threads)
    weights = {
        name: {part: array.astype(float) for part, array in layer.items()}
        for name, layer in cases.weights(SHAPES).items()
    }
    upload, windows = encrypt(client, image)
    assert windows == WINDOWS

    def decrypt(answer: bytes) -> list[float]:
        return tenseal.ckks_vector_from(client, answer).decrypt()

    call = staged(
        lambda _: encrypt(client, image),
        lambda sent: evaluate(server, *sent, weights),
        decrypt,
    )
    warmup = sum(call())
    scores = np.array(decrypt(evaluate(server, upload, windows, weights)))
    about = {
        "variant": "tutorial",
        "warmup_seconds": warmup,
        "upload_bytes": len(upload),
        "key_bytes": len(public),
        "max_error": float(np.abs(scores - plain(image, weights)).max()),
    }
    return Work(call, about)


def encrypt(context: tenseal.Context, image: np.ndarray) -> tuple[bytes, int]:
    """The client: the windows of the image in one ciphertext, serialised."""
    encrypted, windows = tenseal.im2col_encoding(
        context, image.tolist(), KERNEL, KERNEL, STRIDE
    )
    return encrypted.serialize(), windows


def evaluate(
    context: tenseal.Context, upload: bytes, windows: int, weights: cases.Parameters
) -> bytes:
    """The server, which has no secret key: the encrypted scores, serialised."""
    image = tenseal.ckks_vector_from(context, upload)
    kernels, biases = weights["conv"]["kernel"], weights["conv"]["bias"]
    x = tenseal.CKKSVector.pack_vectors(
        [
            image.conv2d_im2col(kernels[..., m].tolist(), windows) + float(biases[m])
            for m in range(MAPS)
        ]
    )
    for name in ("hidden", "scores"):
        x.square_()
        x = x.mm(weights[name]["kernel"].tolist()) + weights[name]["bias"].tolist()
    return x.serialize()


def plain(image: np.ndarray, weights: cases.Parameters) -> np.ndarray:
    """The same network on the image in the clear: (10,)."""
    views = np.lib.stride_tricks.sliding_window_view(image, (KERNEL, KERNEL))
    views = views[::STRIDE, ::STRIDE].reshape(-1, KERNEL, KERNEL)
    maps = np.einsum("wij,ijm->mw", views, weights["conv"]["kernel"])
    x = (maps + weights["conv"]["bias"][:, None]).ravel()
    for name in ("hidden", "scores"):
        x = np.square(x) @ weights[name]["kernel"] + weights[name]["bias"]
    return x
