"""Draws who takes part in each round, whose uploads are lost, and the root keys."""

import numbers
from collections.abc import Sequence

import jax
import numpy as np

from fedjax_private.choices import shown
from fedjax_private.privacy.noise import noise_key
from fedjax_private.simulation.chunks import Ids
from fedjax_private.typing import ClientKeys

# Folded into a seed's key, so that batches and initialisation do not share randomness.
BATCHES = 1

DROP_OUTS = 2  # keeps these draws apart from those of cohorts


def root_keys(seed: int, noise_seed: int | None = None, run: str = "") -> ClientKeys:
    """Returns the root keys of a run.

    Args:
        seed: of the batches of training without privacy.
        noise_seed: of privacy noise and private samples, which those who know `seed`
            must not know; None takes 64 bits from the operating system.
        run: see `privacy.noise_key`.

    Raises:
        ValueError: a seed that is no whole number.
    """
    check_number("seed", seed, 0)
    sampling = jax.random.fold_in(jax.random.key(seed), BATCHES)
    return ClientKeys(sampling, noise_key(noise_seed, run))


def cohorts(seed: int, rounds: int, clients: int, size: int | None = None) -> list[Ids]:
    """Returns the ids of the clients that take part in each round: a public schedule.

    Each round draws `size` clients without replacement; None takes all. The server
    draws and knows the schedule, so there is no privacy amplification against it, and
    the accounting charges every scheduled participation at its full cost.

    Raises:
        ValueError: size outside 1..clients, or arguments that are no whole numbers.
    """
    for name, value in (("seed", seed), ("rounds", rounds), ("clients", clients)):
        check_number(name, value, 0 if name == "seed" else 1)
    if size is None or size == clients:
        return [np.arange(clients)] * rounds
    if not 1 <= size <= clients:
        raise ValueError(
            f"cohort must lie between 1 and the {clients} clients, got {size}."
        )
    generator = np.random.default_rng([seed, clients, size])
    return [
        np.sort(generator.choice(clients, size, replace=False)) for _ in range(rounds)
    ]


def drop_outs(seed: int, schedule: Sequence[Ids], probability: float) -> list[Ids]:
    """Returns the ids of each round's clients whose upload never arrives.

    Each client drops out independently, for reasons unrelated to its records.

    Raises:
        ValueError: a probability outside [0, 1).
    """
    if not 0.0 <= probability < 1.0:
        raise ValueError(f"drop_out must lie in [0, 1), got {probability}.")
    generator = np.random.default_rng([seed, DROP_OUTS])
    return [ids[generator.random(len(ids)) < probability] for ids in schedule]


def check_number(name: str, value: object, least: int) -> None:
    """Raises ValueError unless a value is a whole number from `least` on."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"{name} must be a whole number from {least} on, got {shown(value)}."
        )
