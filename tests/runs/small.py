"""Settings of small runs."""

import dataclasses

from fedjax_private import runs

CLASSES, FEATURES = 3, 6


def spec(**settings):
    """A run of seconds on `blobs`; its noise is given, so that nothing is searched."""
    usual = {
        "arm": "fl",
        "clients": 3,
        "model": "linear",
        "dataset": "blobs",
        "rounds": 2,
        "sampling_probability": 0.5,
    }
    if "epsilon" not in settings:
        usual["noise_multiplier"] = 0.5
    asked = runs.Spec(**usual | settings)
    idle = asked.unused().keys() & usual.keys() - settings.keys()
    return dataclasses.replace(
        asked,
        **{f.name: f.default for f in dataclasses.fields(asked) if f.name in idle},
    )


# The names of a run's row, in this order: part of the interface. Those of the settings
# of its entries follow.
ROW_NAMES = (
    "run",
    "arm",
    "clients",
    "partition",
    "seed",
    "dataset",
    "model",
    "params",
    "train_examples",
    "largest_class",
    "algorithm",
    "settings_from",
    "rounds",
    "accuracy",
    "loss",
    "epsilon",
    "delta",
    "epsilon_insider",
    "epsilon_claimed",
    "unit",
    "mechanism",
    "noise_multiplier",
    "clip_norm",
    "sampling_probability",
    "steps",
    "honest_clients",
    "encryption",
    "seconds_total",
    "seconds_train",
    "seconds_encrypt",
    "seconds_add",
    "seconds_decrypt",
    "upload_bytes_per_client_round",
    "max_aggregation_error",
    "saturated",
    "wrapped",
    "void_rounds",
    "recovered_holders",
    "lost_uploads",
    "client_accuracy_mean",
    "client_accuracy_worst_tenth",
    "directory",
    "time",
    "version",
    "warnings",
    "noise",
    "client",
    "activation",
    "augmentations",
    "local_epochs",
    "local_steps",
    "batch_size",
    "learning_rate",
    "momentum",
    "server_optimizer",
    "server_learning_rate",
    "averaging",
    "cohort",
    "drop_out",
    "min_uploads",
    "evaluate_every",
    "chunk_size",
    "backend",
    "epsilon_target",
    "epsilon_against",
    "noise_seed",
    "client_statistics",
    "settings",
    "signal_bound",
)
