"""Suite `encryption`: uploads, sums, decryptions, and what they add to a round."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.learning import Rounds
from experiments.benchmarks.measure import Case, Work
from fedjax_private import aggregation
from fedjax_private.aggregation import SCHEMES, Options
from fedjax_private.encryption import derive
from fedjax_private.trust import Trust

PARTS = ("encrypt", "add", "decrypt")

# Those of the table and of the cases: name -> scheme, options.
VARIANTS: Mapping[str, tuple[str, Options]] = {
    "ckks": ("ckks", Options()),
    "ckks_unprotected": ("ckks", Options(protect=False)),
    "ckks_real": ("ckks", Options(complex_packing=False)),
    "threshold_ckks": ("threshold_ckks", Options()),
    "exact": ("exact", Options()),
    "exact_9_bits": ("exact", Options(quantization_bits=9)),
    "threshold_exact": ("threshold_exact", Options()),
    "threshold_exact_9_bits": ("threshold_exact", Options(quantization_bits=9)),
}

DERIVED_COLUMNS = (
    "scheme", "uploads", "ring", "modulus bits", "lanes", "log2 t", "log2 scale",
    "bytes a value", "error of a mean", "log2 flooding", "budget of a key",
)  # fmt: skip


def derived() -> list[Sequence[str]]:
    """Rows of the table of derived parameters."""
    rows = []
    for name, (scheme, options) in VARIANTS.items():
        for uploads in (4, 32, 256):
            request = aggregation.request_for(scheme, 1_000_000, uploads, options)
            p = derive(request)
            # A mean's error over the width of the range, as a power of two.
            error = p.error_std(uploads) / (2 * request.sum_bound)
            flooding = math.log2(p.flooding_std) if p.flooding_std else None
            rows.append(
                [
                    name,
                    str(uploads),
                    str(p.ring_dimension),
                    "+".join(map(str, p.limb_bits)),
                    str(p.lanes or ""),
                    f"{math.log2(p.plaintext_modulus):.1f}" if p.lanes else "",
                    "" if p.lanes else f"{math.log2(p.scale):.1f}",
                    f"{p.bytes_per_value:.2f}",
                    "0" if p.lanes else f"2^{math.log2(error):.1f}",
                    "" if flooding is None else f"{flooding:.1f}",
                    "any" if flooding is None else str(request.query_budget),
                ]
            )
    return rows


class _Sums:
    """Sums of the same vectors, one after another."""

    def __init__(
        self, scheme: str, options: Options, parameters: int, clients: int
    ) -> None:
        trust = Trust(uploads=clients, decryptor=SCHEMES[scheme])
        self._sums = aggregation.make(
            scheme, vector_size=parameters, trust=trust, options=options
        )
        self._clients, self._round = np.arange(clients), 0
        rng = np.random.default_rng(0)
        # The size of weighted model updates.
        vectors = 0.1 / clients * rng.standard_normal((clients, parameters))
        keys = jax.random.split(jax.random.key(0), clients)
        encode = jax.vmap(self._sums.codec.encode)
        self._slots = np.asarray(encode(keys, jnp.asarray(vectors, jnp.float32)))
        self.fields: dict[str, Any] = {}

    def repeat(self, times: int) -> list[list[float]]:
        """See `Work`: seconds to encrypt one upload, to add all, to decrypt."""
        seconds = []
        for _ in range(times):
            self._round += 1
            session = self._sums.open(self._round)
            session.add(self._clients, self._slots)
            _, report = session.release()
            self.fields = {
                "bytes_per_parameter": report.upload_bytes_per_client
                / self._slots.shape[1],
                "link_bytes": dict(report.link_bytes),
                "max_error": report.max_error,
            }
            seconds.append(
                [
                    report.seconds_encrypt / len(self._clients),
                    report.seconds_add,
                    report.seconds_decrypt,
                ]
            )
        return seconds


def _open_sums(
    name: str, parameters: int, clients: int
) -> tuple[Work, Mapping[str, Any]]:
    work = _Sums(*VARIANTS[name], parameters, clients)
    work.repeat(1)
    return work, work.fields


# A round in the clear and the same one encrypted.
ROUNDS = ("none", "ckks", "exact")


class _EveryRound:
    def __init__(self, count: int, examples: int, epochs: int) -> None:
        self._rounds = [
            Rounds(
                count,
                examples,
                20,
                epochs=epochs,
                name="tutorial_cnn",
                encryption=encryption,
            )
            for encryption in ROUNDS
        ]

    def repeat(self, times: int) -> list[list[float]]:
        """See `Work`: seconds of one round with each."""
        return [
            [seconds for rounds in self._rounds for seconds in rounds.repeat(1)]
            for _ in range(times)
        ]


def _open_rounds(
    count: int, examples: int, epochs: int
) -> tuple[Work, Mapping[str, Any]]:
    work = _EveryRound(count, examples, epochs)
    work.repeat(2)
    return work, {}


def encryption_cases(quick: bool) -> list[Case]:
    """Sums of a small model's updates and of a million parameters; whole rounds."""

    def sums(name: str, parameters: int, clients: int, compared: bool) -> Case:
        return Case(
            suite="encryption",
            name=f"{name}_{parameters}",
            fields={"parameters": parameters, "clients": clients, "scheme": name},
            open=functools.partial(_open_sums, name, parameters, clients),
            for_peers={"parameters": parameters, "clients": clients}
            if compared
            else None,
            parts=PARTS,
        )

    def rounds(count: int, examples: int, epochs: int) -> Case:
        sizes = {"clients": count, "examples": examples, "epochs": epochs}
        return Case(
            suite="encryption",
            name=f"round_{count}",
            fields={**sizes, "model": "tutorial_cnn"},
            open=functools.partial(_open_rounds, count, examples, epochs),
            parts=ROUNDS,
        )

    if quick:
        return [sums("ckks", 1_000, 2, True), rounds(2, 20, 1)]
    cases = [sums(name, 1_000_000, 8, True) for name in ("exact", "ckks")]
    cases += [sums(name, 1_000_000, 8, False) for name in ("ckks_unprotected",)]
    cases += [sums(name, 26_011, 32, False) for name in VARIANTS]
    return [*cases, rounds(32, 120, 5)]
