"""The settings of a run as flat columns of its row, by the names of the flags."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from fedjax_private.choices import Choice, settings_of
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.runs.preparation import Prepared
from fedjax_private.runs.tuned import DEFAULT_EPSILON

# Columns whose flags have another name.
FLAGS = {"epsilon_target": "epsilon"}


def columns(prepared: Prepared) -> dict[str, Any]:
    """Returns the settings that a run trains with, given and tuned ones alike.

    A setting that has no effect on the run is None. Names and values are those of the
    flags but for `epsilon_target`, which `epsilon` sets, and `noise`, which also says
    where the server draws it. Settings of entries stand at the end, see
    `entry_settings`.
    """
    spec, values, idle = prepared.spec, prepared.hyperparameters, prepared.spec.unused()
    ready_model = prepared.model_name != spec.model_entry.name
    summed_exactly = spec.shares_noise and spec.scheme.entry.exact
    calibrated = spec.noise_multiplier is None
    settings = {
        "client": _client(prepared),
        "activation": None if ready_model else values.activation,
        "augmentations": None if ready_model else values.augmentations,
        "local_epochs": values.local_epochs,
        "local_steps": values.local_steps,
        "batch_size": values.batch_size,
        "learning_rate": values.learning_rate,
        "momentum": values.momentum,
        "server_optimizer": values.server_optimizer,
        "server_learning_rate": values.server_learning_rate,
        "averaging": values.averaging,
        "cohort": spec.cohort_size,
        "drop_out": spec.drop_out,
        "min_uploads": prepared.trust.uploads if prepared.trust else None,
        "evaluate_every": values.evaluate_every,
        "chunk_size": spec.chunk_size,
        "backend": spec.backend,
        "epsilon_target": (spec.epsilon or DEFAULT_EPSILON) if calibrated else None,
        "epsilon_against": spec.epsilon_against if calibrated else None,
        "noise_seed": spec.noise_seed,
        "client_statistics": spec.client_statistics,
        "settings": getattr(spec.settings, "path", None),
        "signal_bound": values.signal_bound if summed_exactly else None,
        **entry_settings(_choices(prepared)),
    }
    return {"noise": _noise(prepared)} | {
        name: None if FLAGS.get(name, name) in idle else value
        for name, value in settings.items()
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
    """The choices that have an effect on the run, by their fields."""
    spec, idle = prepared.spec, prepared.spec.unused()
    ready_model = prepared.model_name != spec.model_entry.name
    by_default = {"algorithm": prepared.algorithm, "model": spec.chosen_model}
    for field in dataclasses.fields(spec):
        choice = by_default.get(field.name, getattr(spec, field.name))
        if field.name in idle or (field.name == "model" and ready_model):
            continue
        if isinstance(choice, Choice):
            yield field.name, choice


def entry_settings(choices: Iterable[tuple[str, Choice[Any]]]) -> dict[str, Any]:
    """Returns the settings of entries, by name; None has been derived.

    A name that two entries share is written with its kind, as in `partition.width`,
    unless both have the same value, as where a flag set it.
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
    columns: dict[str, Any] = {}
    for name, values in owned.items():
        first, *others = values.values()
        shared = all(other == first for other in others)
        for kind, value in values.items():
            columns[name if shared else f"{kind}.{name}"] = value
    return columns
