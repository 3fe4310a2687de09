"""Settings of small runs."""

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
    return runs.Spec(**usual | settings)
