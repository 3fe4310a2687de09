"""The ledgers of a run: what is charged before any of its noise is drawn."""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private import algorithms, simulation
from fedjax_private.privacy.accounting import Ledger, fingerprint
from fedjax_private.runs.preparation import Prepared
from fedjax_private.trust import Adversary
from fedjax_private.typing import ClientKeys

# (round number, cohort, server state, client states) -> None.
Charge = Callable[[int, simulation.Ids, Any, Any], None]


def open_ledgers(prepared: Prepared, folder: Path) -> dict[Adversary, Ledger]:
    """A ledger for each adversary that faces noise of its own; none without DP.

    Each refuses more than what was planned.

    Args:
        prepared: the run.
        folder: where ledgers lie.
    """
    privacy, spec = prepared.privacy, prepared.spec
    if privacy is None:
        return {}
    folder.mkdir(exist_ok=True)
    ledgers = {}
    for adversary, words in privacy.against.items():
        kind = f".{adversary.value}" if len(privacy.against) > 1 else ""
        planned = privacy.planned(adversary)
        budget = (planned, spec.delta) if math.isfinite(planned) else None
        path = folder / f"{spec.name}{kind}.jsonl"
        ledgers[adversary] = Ledger(path, privacy.neighbors, budget, words)
    return ledgers


def charger(
    ledgers: Mapping[Adversary, Ledger], prepared: Prepared, roots: ClientKeys
) -> Charge:
    """Charges a round before any of its noise is drawn.

    Where releases are independent, a cohort pays for its round. Where they share noise,
    only a whole run has a price: everyone who will ever take part pays for all steps of
    the busiest before the first round. Every later round offers the same entry again,
    which the ledger takes for what it is, a replay: the run's keys, shards, schedule
    and settings, which its digest covers, leave nothing else to be computed.
    """
    privacy = prepared.privacy
    if privacy is None:
        return lambda number, cohort, server, clients: None
    # The spec's plain form: entries hold functions, which show as addresses.
    asked = prepared.spec.described()
    fixed = hashlib.sha256(repr((privacy.plan, asked)).encode())
    fixed.update(_bytes(roots.sampling))
    for leaf in jax.tree.leaves((prepared.data, prepared.schedule)):
        fixed.update(_leaf(leaf))

    def charge_round(
        number: int, cohort: simulation.Ids, server: Any, clients: Any
    ) -> None:
        digest = fixed.copy()
        for leaf in jax.tree.leaves((server, clients)):
            digest.update(_leaf(leaf))
        for adversary, ledger in ledgers.items():
            ledger.charge(
                clients=cohort.tolist(),
                round_number=number,
                event=privacy.event(privacy.steps_per_round, adversary),
                fingerprint=fingerprint(
                    _bytes(algorithms.round_key(roots.noise, number))
                ),
                digest=digest.hexdigest(),
            )

    def charge_run(
        number: int, cohort: simulation.Ids, server: Any, clients: Any
    ) -> None:
        for adversary, ledger in ledgers.items():
            ledger.charge(
                clients=np.unique(np.concatenate(prepared.schedule)).tolist(),
                round_number=1,
                event=privacy.event(privacy.steps, adversary),
                fingerprint=fingerprint(_bytes(roots.noise)),
                digest=fixed.hexdigest(),
            )

    return charge_run if privacy.correlated else charge_round


def _bytes(key: jax.Array) -> bytes:
    return np.asarray(jax.random.key_data(key)).tobytes()


def _leaf(leaf: Any) -> Any:
    """An array of a state as bytes; a server's noise key is one of them."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return _bytes(leaf)
    return np.ascontiguousarray(leaf)
