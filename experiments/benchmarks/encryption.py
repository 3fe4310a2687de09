"""Suite `encryption`: the parts of encrypted sums, and whole rounds with them."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.table

from experiments.benchmarks.learning import rounds
from experiments.benchmarks.measure import Case, Work
from experiments.benchmarks.peers.registry import STAGES
from experiments.benchmarks.suites import Suite
from fedjax_private import aggregation
from fedjax_private.aggregation import SCHEMES, SchemeEntry, SumTask
from fedjax_private.aggregation.schemes.openfhe import request_for
from fedjax_private.choices import Choice
from fedjax_private.encryption import Scheme, derive

# Name of a case and of a line of the table -> how sums are encrypted.
CIPHERTEXTS: Mapping[str, Choice[SchemeEntry]] = {
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
    "ckks_worst_case": SCHEMES.choose("ckks", {"flooding": "worst_case"}),
    "threshold_exact_worst_case": SCHEMES.choose(
        "threshold_exact", {"flooding": "worst_case"}
    ),
}

# Name of a case -> how sums are hidden: by ciphertexts as above, with a server that is
# believed, with a key for each round, and by OpenFHE alone; or by masks, which have no
# parameters to derive. Sums that are no larger than an upload may be, as weighted means
# are, take no more bits under masks.
VARIANTS = {
    **CIPHERTEXTS,
    **{
        f"{scheme}_{name}": SCHEMES.choose(scheme, settings)
        for scheme in ("ckks", "exact", "threshold_ckks", "threshold_exact")
        for name, settings in (
            ("semi_honest", {"server": "semi_honest"}),
            ("new_keys", {"key_rounds": 1}),
            ("openfhe", {"arithmetic": "openfhe", "server": "semi_honest"}),
        )
    },
    "masks": SCHEMES.choose("masks"),
    "masks_16_bits": SCHEMES.choose("masks", {"sum_bound": 2.0}),
    "masks_semi_honest": SCHEMES.choose("masks", {"server": "semi_honest"}),
}

_COLUMNS = (
    "scheme", "uploads", "ring", "modulus bits", "lanes", "log2 t", "log2 scale",
    "bytes a value", "error of a mean", "log2 flooding", "budget of a key",
)  # fmt: skip


def derived_parameters() -> rich.table.Table:
    """The parameters of every variant with ciphertexts, for a million values."""
    table = rich.table.Table(title="derived parameters", box=rich.box.SIMPLE)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column == "scheme")
    for name, scheme in CIPHERTEXTS.items():
        for uploads in (4, 32, 256):
            trust = aggregation.trust_of(scheme, uploads=uploads)
            task = SumTask(1_000_000, trust, uploads)
            request = request_for(Scheme(scheme.name), scheme.settings, task)
            parameters = derive(request)
            # The error of a mean of full uploads over the width of their range.
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


def _open_sums(
    name: str, parameters: int, clients: int
) -> tuple[Work, Mapping[str, Any]]:
    """Sums of the same vectors: seconds to encrypt one upload, add all, decrypt."""
    scheme = VARIANTS[name]
    trust = aggregation.trust_of(scheme, uploads=clients)
    sums = aggregation.make(scheme, vector_size=parameters, trust=trust)
    rng = np.random.default_rng(0)
    # The size of weighted model updates.
    vectors = 0.1 / clients * rng.standard_normal((clients, parameters))
    keys = jax.random.split(jax.random.key(0), clients)
    encode = jax.vmap(sums.codec.encode)
    slots = np.asarray(encode(keys, jnp.asarray(vectors, jnp.float32)))
    numbers, fields = itertools.count(1), {}

    def once() -> list[float]:
        session = sums.open(next(numbers))
        session.add(np.arange(clients), slots)
        _, report = session.release()
        fields["bytes_per_parameter"] = report.upload_bytes_per_client / slots.shape[1]
        fields["link_bytes"] = dict(report.link_bytes)
        fields["max_error"] = report.max_error
        fields["seconds_keys"] = report.seconds_keys
        return [
            report.seconds_encrypt / clients,
            report.seconds_add,
            report.seconds_decrypt,
        ]

    once()
    return once, fields


# How the updates of a round are summed; in tiny cases, the first ones only.
ROUNDS = (
    "none",
    "ckks",
    "exact",
    "masks",
    "threshold_exact",
    "exact_semi_honest",
    "threshold_exact_semi_honest",
)


def _open_rounds(
    schemes: Sequence[str], count: int, examples: int, epochs: int
) -> tuple[Work, Mapping[str, Any]]:
    """The same round with each of the schemes."""
    sizes: dict[str, Any] = {"epochs": epochs, "name": "tutorial_cnn"}
    works = [
        rounds(count, examples, 20, scheme=VARIANTS.get(name, name), **sizes)
        for name in schemes
    ]

    def once() -> list[float]:
        return [work() for work in works]

    once(), once()
    return once, {}


def _cases(quick: bool) -> list[Case]:
    """Sums of a million values and of a small model's updates; whole rounds."""

    def summed(name: str, parameters: int, clients: int, compared: bool) -> Case:
        sizes = {"parameters": parameters, "clients": clients}
        return Case(
            f"{name}_{parameters}",
            {**sizes, "scheme": name},
            functools.partial(_open_sums, name, **sizes),
            for_peers=sizes if compared else None,
            parts=STAGES["encryption"],
            most=3 if name.endswith("_new_keys") else 1_000,  # keys take seconds
        )

    def whole(schemes: tuple[str, ...], count: int, examples: int, epochs: int) -> Case:
        sizes = {"clients": count, "examples": examples, "epochs": epochs}
        return Case(
            f"round_{count}",
            {**sizes, "model": "tutorial_cnn"},
            functools.partial(_open_rounds, schemes, count, examples, epochs),
            parts=schemes,
        )

    if quick:
        return [summed("ckks", 1_000, 2, True), whole(ROUNDS[:4], 2, 20, 1)]
    cases = [summed(name, 1_000_000, 8, True) for name in ("exact", "ckks")]
    cases.append(summed("ckks_unprotected", 1_000_000, 8, False))
    cases += [summed(name, 26_011, 32, False) for name in VARIANTS]
    return [*cases, whole(ROUNDS, 32, 120, 5)]


ENCRYPTION = Suite(
    "encryption",
    "encrypted sums, and rounds with them",
    _cases,
    preface=derived_parameters,
    unavailable=SCHEMES.find("ckks").unavailable,
)
