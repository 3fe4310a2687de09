"""Encrypts only the most revealing entries: FedML-HE's trade of secrecy for speed.

Jin, Yao, Han, Gu, Joe-Wong, Ravi, Avestimehr and He, "FedML-HE: An Efficient
Homomorphic-Encryption-Based Privacy-Preserving Federated Learning System" (2023).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.flatten_util import ravel_pytree

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.inputs import check_clients, check_numbers
from fedjax_private.aggregation.plain import PlainAggregation
from fedjax_private.aggregation.sums import count_saturated
from fedjax_private.aggregation.types import (
    Codec,
    FloatArray,
    IntArray,
    Session,
    SessionReport,
)
from fedjax_private.encryption.math.packing import check_vector
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.trust import Trust
from fedjax_private.typing import Array, Params


class SelectiveAggregation:
    """Encrypts some entries of every vector and sends the others in the clear.

    Formal guarantees: for the encrypted entries, those of the inner aggregation. For
    the others none: the server reads them in every upload. It also learns what they
    reveal about the encrypted entries, and about the records behind both. Encrypting
    the most sensitive entries defeats known reconstruction attacks; there is no proof
    that it defeats others.

    Args:
        inner: adds the encrypted entries.
        encrypted: (P,) which entries it adds; public.

    Raises:
        ValueError: if the mask does not have as many entries as the inner vectors.
    """

    def __init__(
        self, inner: EncryptedAggregation, encrypted: npt.NDArray[np.bool_]
    ) -> None:
        if np.count_nonzero(encrypted) != inner.request.values:
            raise ValueError(
                f"{np.count_nonzero(encrypted)} entries are to be encrypted, but the "
                f"inner aggregation adds {inner.request.values}."
            )
        self._inner, self._encrypted = inner, encrypted
        clear = encrypted.size - inner.request.values
        self._plain = PlainAggregation(clear, inner.trust)

    @property
    def trust(self) -> Trust:
        """The inner scheme's."""
        return self._inner.trust

    @property
    def codec(self) -> Codec:
        """The inner scheme's: entries in the clear are encoded alike."""
        return self._inner.codec

    @property
    def description(self) -> str:
        """Sentences for reports, with the share of entries that is exposed."""
        share = 1 - self._inner.request.values / self._encrypted.size
        return (
            f"SELECTIVE: {share:.1%} of the entries are sent in the clear, and the "
            f"server reads them in every upload. The others: {self._inner.description}"
        )

    def open(self, round_number: int) -> Session:
        """Opens the session of one round."""
        return _SelectiveSession(
            self._inner.open(round_number),
            self._plain.open(round_number),
            self._encrypted,
            self._inner.request,
        )


class _SelectiveSession:
    def __init__(
        self,
        secret: Session,
        clear: Session,
        encrypted: npt.NDArray[np.bool_],
        request: SumRequest,
    ) -> None:
        self._secret, self._clear, self._encrypted = secret, clear, encrypted
        self._request, self._saturated = request, 0

    def add(self, clients: IntArray, slots: npt.NDArray[np.generic]) -> None:
        slots = np.asarray(slots)
        ids = check_clients(clients)
        check_numbers(slots, self._request.scheme.exact)
        if slots.shape != (len(ids), self._encrypted.size):
            raise ValueError(
                f"slots of shape {slots.shape} where ({len(ids)}, "
                f"{self._encrypted.size}) were declared."
            )
        clear = slots[:, ~self._encrypted]
        for client, vector in zip(ids, clear, strict=True):
            check_vector(client, vector, self._request)
        self._secret.add(clients, slots[:, self._encrypted])
        self._clear.add(clients, clear)
        self._saturated += count_saturated(clear, self._request)

    def release(self) -> tuple[FloatArray, SessionReport]:
        total = np.empty(self._encrypted.size)
        total[self._encrypted], report = self._secret.release()
        total[~self._encrypted], other = self._clear.release()
        saturated = report.saturated + self._saturated
        report = dataclasses.replace(report, saturated=saturated)
        return total, report.with_clear(other)


def sensitivity(
    apply: Callable[[Params, Array], Array],
    params: Params,
    inputs: Array,
    labels: Array,
) -> Array:
    """Returns (P,) float32: how much each parameter's gradient reveals of the labels.

    The mean over examples of `sum_c |d/dy_c (d loss / d w)|`, with y the label as a
    distribution over classes (Jin et al. 2023, section 2.4). Scores of a client's
    records reveal something about them; so does every mask that is chosen by scores.

    Args:
        apply: (params, inputs) -> logits.
        params: the model.
        inputs: (B, ...).
        labels: (B,) int32.
    """

    def loss(tree: Params, image: Array, target: Array) -> Array:
        logits = apply(tree, image[None])
        return optax.softmax_cross_entropy(logits, target[None]).sum()

    @jax.jit
    def one(image: Array, label: Array) -> Array:
        classes = jax.eval_shape(apply, params, inputs[:1]).shape[-1]

        def gradient(target: Array) -> Array:
            vector, _ = ravel_pytree(jax.grad(loss)(params, image, target))
            return vector

        mixed = jax.jacfwd(gradient)(jax.nn.one_hot(label, classes))
        return jnp.abs(mixed).sum(axis=1)

    total = sum(one(image, label) for image, label in zip(inputs, labels, strict=True))
    return jnp.asarray(total) / len(inputs)


def most_sensitive(
    scores: npt.NDArray[np.floating], fraction: float
) -> npt.NDArray[np.bool_]:
    """Returns a mask (P,) of the `fraction` of entries with the highest scores.

    At least one entry is in it.

    Raises:
        ValueError: if the fraction lies outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}.")
    count = max(1, round(fraction * scores.size))
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask
