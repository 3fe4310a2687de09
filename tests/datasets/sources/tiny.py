"""A small TFDS set that needs no TensorFlow to be prepared: it yields PIL images."""

import contextlib
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class TinyConfig(tfds.core.BuilderConfig):
    pass


def rows(images, labels):
    """Images with their labels as sorted byte strings: a multiset to compare."""
    return sorted(
        image.tobytes() + bytes([label])
        for image, label in zip(images, labels, strict=True)
    )


def tiny_examples(split, mode, size=(5, 4)):
    for index in range(6 if split == "train" else 3):
        image = Image.new(mode, size, index * 10)
        image.putpixel((1, 2), 77 if mode == "L" else (77, 78, 79))
        yield index, {"image": image, "label": index % 3}


with tfds.core.registered.skip_registration():

    class FedjaxPrivateTiny(tfds.core.GeneratorBasedBuilder):
        name = "fedjax_private_tiny"
        VERSION = tfds.core.Version("1.2.0")
        BUILDER_CONFIGS = [  # noqa: RUF012
            TinyConfig(name=name, description=name)
            for name in ("grey", "colour", "no_test", "sizes", "no_label", "deep")
        ]

        def _info(self):
            config = self.builder_config.name
            channels = 3 if config == "colour" else 1
            size = (None, None) if config == "sizes" else (4, 5)
            features = {
                "image": tfds.features.Image(
                    shape=(*size, channels),
                    encoding_format="png",
                    dtype=np.uint16 if config == "deep" else np.uint8,
                ),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            if config == "no_label":
                features["target"] = features.pop("label")
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            config = self.builder_config.name
            mode = "RGB" if config == "colour" else "L"
            splits = ("train",) if config == "no_test" else ("train", "test")

            def examples(split):
                size = (5, 4) if config != "sizes" or split == "train" else (6, 4)
                for index, example in tiny_examples(split, mode, size):
                    if config == "no_label":
                        example["target"] = example.pop("label")
                    yield index, example

            return {split: examples(split) for split in splits}

        def _generate_examples(self):
            raise NotImplementedError


def prepare_tiny(data_dir, config, file_format="array_record"):
    with contextlib.redirect_stderr(io.StringIO()):
        FedjaxPrivateTiny(data_dir=data_dir, config=config).download_and_prepare(
            file_format=file_format
        )
