"""5,000 real MNIST digits that need no download."""

from fedjax_private.datasets.examples import Dataset
from fedjax_private.datasets.sources.source import Source, TfdsSettings
from fedjax_private.datasets.sources.tfds import expanded, read_prepared


def _load(name: str, settings: TfdsSettings) -> Dataset:
    # TFDS takes seconds to import.
    from fedjax_private.datasets.sources.mnist_5k_builder import prepared

    return read_prepared(name, prepared(expanded(settings.data_dir)))


MNIST_5K = Source(
    "mnist_5k",
    "5,000 MNIST digits from an installed package, without a download",
    _load,
    TfdsSettings,
)
