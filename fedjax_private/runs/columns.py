"""The settings of a run as flat columns of its row, by the names of the flags."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from fedjax_private.choices import Choice, settings_of
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.datasets import PARTITIONS, SOURCES
from fedjax_private.models import MODELS
from fedjax_private.privacy.mechanisms import MECHANISMS
from fedjax_private.runs.preparation import Prepared
from fedjax_private.runs.tuned import DEFAULT_EPSILON


def columns(prepared: Prepared) -> dict[str, Any]:
    """Returns the settings that a run trains with, given and tuned ones alike.

    A setting that does not apply is None. Names and values are those of the flags but
    for `epsilon_target`, which `epsilon` sets. Settings of entries stand at the end,
    see `entry_settings`.
    """
    spec, arm, values = prepared.spec, prepared.spec.traits, prepared.hyperparameters
    entry = prepared.algorithm.entry
    own_model = prepared.model_name != spec.model_entry.name
    calibrated = arm.private and spec.noise_multiplier is None
    return {
        "client": _client(prepared),
        "activation": (
            values.activation
            if not own_model and spec.model_entry.activations
            else None
        ),
        "augmentations": (
            values.augmentations
            if not own_model and spec.model_entry.augmentable
            else None
        ),
        "local_epochs": values.local_epochs,
        "local_steps": values.local_steps,
        "batch_size": values.batch_size,
        "learning_rate": values.learning_rate,
        "momentum": values.momentum,
        "server_optimizer": values.server_optimizer,
        "server_learning_rate": values.server_learning_rate,
        "averaging": values.averaging,
        "cohort": (
            spec.cohort_size if arm.federated and not entry.samples_clients else None
        ),
        "drop_out": spec.drop_out if arm.federated else None,
        "min_uploads": prepared.trust.uploads if prepared.trust else None,
        "evaluate_every": values.evaluate_every,
        "chunk_size": spec.chunk_size,
        "backend": spec.backend,
        "epsilon_target": ((spec.epsilon or DEFAULT_EPSILON) if calibrated else None),
        "epsilon_against": spec.epsilon_against if calibrated else None,
        "noise": _noise(prepared),
        "noise_seed": spec.noise_seed if arm.private else None,
        **entry_settings(_choices(prepared)),
    }


def _client(prepared: Prepared) -> str | None:
    """The name of the client function; None where the algorithm has its own."""
    if not prepared.algorithm.entry.takes_client:
        return None
    usual = "dp_sgd" if prepared.noises_steps else "sgd"
    return CLIENTS.choose(prepared.spec.client or usual).name


def _noise(prepared: Prepared) -> str | None:
    """Who draws the noise: each client all of it, the clients together, the server."""
    if not prepared.spec.traits.private:
        return None
    if prepared.algorithm.entry.server_noise:
        return "server"
    return "distributed" if prepared.spec.shares_noise else "local"


def _choices(prepared: Prepared) -> Iterable[tuple[str, Choice[Any]]]:
    """The choices that a run uses, by their kind."""
    spec = prepared.spec
    yield "dataset", SOURCES.choose(spec.dataset)
    if not spec.traits.pooled:
        yield "partition", PARTITIONS.choose(spec.partition)
    if prepared.model_name == spec.model_entry.name:
        yield "model", MODELS.choose(spec.model)
    yield "algorithm", prepared.algorithm
    if spec.client is not None and prepared.algorithm.entry.takes_client:
        yield "client", CLIENTS.choose(spec.client)
    if prepared.noises_steps:
        yield "mechanism", MECHANISMS.choose(spec.mechanism)
    if spec.encrypts:
        yield "encryption", spec.scheme


def entry_settings(choices: Iterable[tuple[str, Choice[Any]]]) -> dict[str, Any]:
    """Returns the settings of entries, by name; None has been derived.

    A name that two entries share is written with its kind, as in `partition.width`.
    Tuples are text, separated by commas, as flags take them.
    """
    owned: dict[str, dict[str, Any]] = {}  # setting -> kind -> value
    for kind, choice in choices:
        known = settings_of(choice.entry)
        for field in dataclasses.fields(choice.settings):
            if field.name in known:
                value = getattr(choice.settings, field.name)
                if isinstance(value, tuple):
                    value = ",".join(map(str, value))
                owned.setdefault(field.name, {})[kind] = value
    return {
        name if len(values) == 1 else f"{kind}.{name}": value
        for name, values in owned.items()
        for kind, value in values.items()
    }
