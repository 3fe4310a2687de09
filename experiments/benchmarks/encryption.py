"""Suite `encryption`: the parts of encrypted sums, and whole rounds with them."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.table

from experiments.benchmarks.learning import Rounds
from experiments.benchmarks.measure import Case, Work
from experiments.benchmarks.suites import Suite
from fedjax_private import aggregation
from fedjax_private.aggregation import SCHEMES, SchemeEntry, SumTask
from fedjax_private.aggregation.schemes.openfhe import request_for
from fedjax_private.choices import Choice
from fedjax_private.encryption import Scheme, derive

PARTS = ("encrypt", "add", "decrypt")

# Name of a case and of a line of the table -> how sums are encrypted.
VARIANTS: Mapping[str, Choice[SchemeEntry]] = {
    "ckks": SCHEMES.choose("ckks"),
    "ckks_unprotected": SCHEMES.choose("ckks", {"protect": False}),
    "ckks_real": SCHEMES.choose("ckks", {"packing": "real"}),
    "threshold_ckks": SCHEMES.choose("threshold_ckks"),
    "exact": SCHEMES.choose("exact"),
    "exact_9_bits": SCHEMES.choose("exact", {"quantization_bits": 9}),
    "threshold_exact": SCHEMES.choose("threshold_exact"),
    "threshold_exact_9_bits": SCHEMES.choose(
        "threshold_exact", {"quantization_bits": 9}
    ),
}

_COLUMNS = (
    "scheme", "uploads", "ring", "modulus bits", "lanes", "log2 t", "log2 scale",
    "bytes a value", "error of a mean", "log2 flooding", "budget of a key",
)  # fmt: skip


def derived_parameters() -> rich.table.Table:
    """The parameters of every variant, for a million values."""
    table = rich.table.Table(title="derived parameters", box=rich.box.SIMPLE)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column == "scheme")
    for name, scheme in VARIANTS.items():
        for uploads in (4, 32, 256):
            trust = aggregation.trust_of(scheme, uploads=uploads)
            task = SumTask(1_000_000, trust, uploads)
            request = request_for(Scheme(scheme.name), scheme.settings, task)
            parameters = derive(request)
            # The error of a mean over the width of the range, as a power of two.
            error = parameters.error_std(uploads) / (2 * request.sum_bound)
            exact, flooding = bool(parameters.lanes), parameters.flooding_std
            table.add_row(
                name,
                str(uploads),
                str(parameters.ring_dimension),
                "+".join(map(str, parameters.limb_bits)),
                str(parameters.lanes) if exact else "",
                f"{math.log2(parameters.plaintext_modulus):.1f}" if exact else "",
                "" if exact else f"{math.log2(parameters.scale):.1f}",
                f"{parameters.bytes_per_value:.2f}",
                "0" if exact else f"2^{math.log2(error):.1f}",
                f"{math.log2(flooding):.1f}" if flooding else "",
                str(request.settings.query_budget) if flooding else "any",
            )
    return table


class _Sums:
    """Sums of the same vectors, one after another.

    Attributes:
        fields: of the row, from the last sum.
    """

    def __init__(
        self, scheme: Choice[SchemeEntry], parameters: int, clients: int
    ) -> None:
        trust = aggregation.trust_of(scheme, uploads=clients)
        self._sums = aggregation.make(scheme, vector_size=parameters, trust=trust)
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
    work = _Sums(VARIANTS[name], parameters, clients)
    work.repeat(1)
    return work, work.fields


# How the updates of a round are summed.
ROUNDS = ("none", "ckks", "exact")


class _EveryRound:
    """The same round with each of `ROUNDS`."""

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


def _cases(quick: bool) -> list[Case]:
    """Sums of a million values and of a small model's updates; whole rounds."""

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


ENCRYPTION = Suite(
    "encryption",
    "encrypted sums, and rounds with them",
    _cases,
    preface=derived_parameters,
    unavailable=SCHEMES.find("ckks").unavailable,
)
