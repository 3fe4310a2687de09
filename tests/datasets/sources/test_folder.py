"""Folders of images: what is read, and what is refused in one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fedjax_private.datasets import SOURCES, DatasetError, load

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 10
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], axis=-1)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


def write(path, pixels=GREY, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def animals(root, *parts, count=2):
    """Images of cats, dark, and dogs, below each part."""
    for part in parts:
        for i in range(count):
            write(root / part / "cat" / f"{i}.png", GREY // 2)
            write(root / part / "dog" / f"{i}.png", GREY)


def test_train_and_test_are_read(root):
    animals(root, "train", count=3)
    animals(root, "test", count=1)
    (root / "train" / "cat" / ".DS_Store").write_text("hidden")
    dataset = load(f"folder:{root}")
    assert (dataset.name, dataset.class_names) == (f"folder:{root}", ("cat", "dog"))
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.train.inputs.shape == (6, 4, 5, 1)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(dataset.test.inputs[1, ..., 0], GREY)
    np.testing.assert_array_equal(dataset.test.inputs[0, ..., 0], GREY // 2)
    assert dataset.normalization.scale == 255.0


def test_a_test_set_is_drawn_by_class(root):
    animals(root, "", count=10)
    dataset = load(f"folder:{root}", test_fraction=0.3)
    assert np.bincount(dataset.test.labels).tolist() == [3, 3]
    assert np.bincount(dataset.train.labels).tolist() == [7, 7]
    with pytest.raises(
        DatasetError, match=r"test_fraction=0.01 of 20 records leaves no"
    ):
        load(f"folder:{root}", test_fraction=0.01)


def test_folders_of_clients(root):
    for client in ("Bern", "Zug"):
        animals(root, f"train/{client}", f"test/{client}", count=1)
    dataset = load(f"folder:{root}", client_folders=True)
    assert dataset.client_names == ("Bern", "Zug")
    assert dataset.train.clients.tolist() == [0, 0, 1, 1]
    assert dataset.train.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(DatasetError, match=r"out of place: images lie at .*/CLASS/\."):
        load(f"folder:{root}")


def test_sizes_and_modes_are_converted_as_asked(root):
    animals(root, "train", "test")
    assert load(f"folder:{root}", image_mode="RGB").train.inputs.shape[1:] == (4, 5, 3)
    write(root / "train" / "dog" / "large.jpg", COLOUR.repeat(8, 0).repeat(8, 1))
    with pytest.raises(
        DatasetError, match=r"large.jpg has 32 x 40 pixels and .* 4 x 5"
    ):
        load(f"folder:{root}")
    dataset = load(f"folder:{root}", image_size="8x10")
    assert dataset.train.inputs.shape[1:] == (8, 10, 3)  # one has colours
    grey = load(f"folder:{root}", image_size="4x5", image_mode="L").train.inputs
    assert grey.shape[1:] == (4, 5, 1)
    np.testing.assert_array_equal(grey[2, ..., 0], GREY)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_grey_or_colours(root, mode):
    animals(root, "train", "test")
    image = Image.fromarray(COLOUR).convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    image.save(root / "test" / "cat" / f"2.{suffix}")
    channels = 1 if mode in ("1", "LA") else 3
    assert load(f"folder:{root}").test.inputs.shape == (5, 4, 5, channels)


def test_directories_that_do_not_fit(root):
    for name in ("folder:", f"folder:{root}"):
        with pytest.raises(DatasetError, match="names no directory"):
            load(name)
    root.mkdir()
    with pytest.raises(DatasetError, match="holds no images in folders of classes"):
        load(f"folder:{root}")
    animals(root, "train")
    with pytest.raises(DatasetError, match="has train and no test: make both, or"):
        load(f"folder:{root}")
    animals(root, "test")
    with pytest.raises(DatasetError, match=r"has train and test: leave out test_frac"):
        load(f"folder:{root}", split_seed=0)
    write(root / "train" / "stray.png")
    with pytest.raises(DatasetError, match=r"stray.png is out of place: images lie at"):
        load(f"folder:{root}")


def test_files_that_are_no_images_by_their_suffix_are_left_out(root):
    animals(root, "train", "test", count=1)
    (root / "train" / "notes.txt").write_text("beside the classes")
    (root / "train" / "cat" / "Thumbs.db").write_bytes(b"thumbnails")
    write(root / "train" / "dog" / "loud.JPG")
    assert load(f"folder:{root}").train.labels.tolist() == [0, 1, 1]


def test_a_single_class_is_refused(root):
    for part in ("train", "test"):
        write(root / part / "cat" / "0.png")
    with pytest.raises(DatasetError, match=r"every label is 'cat'"):
        load(f"folder:{root}")


def png(width, height):
    """A PNG whose header states a size, and that holds no pixels to speak of."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def cut(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()[:-30]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no image that can be read"),
        (b"text", "is no image that can be read"),
        (cut(COLOUR.repeat(20, 0)), "is no image that can be read .*truncated"),
        (png(50_000, 50_000), "is no image that can be read .*decompression bomb"),
        (png(12_000, 12_000), "is no image that can be read .*decompression bomb"),
        (png(0, 5), "is no image that can be read"),
    ],
    ids=["empty", "text", "cut", "bomb", "small bomb", "no pixels"],
)
def test_hostile_files_are_one_sentence(root, content, words):
    animals(root, "train", "test")
    path = root / "train" / "cat" / "evil.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as raised:
        load(f"folder:{root}", image_size="4x5")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_more_than_eight_bits_are_refused(root):
    animals(root, "train", "test")
    write(root / "test" / "dog" / "deep.png", GREY.astype(np.uint16) * 257)
    with pytest.raises(DatasetError, match=r"more than 8 bits a channel .mode I;16"):
        load(f"folder:{root}")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("image_size", "28", "image_size must be HEIGHTxWIDTH, such as 28x28, got 28"),
        ("image_size", "0x28", "must be HEIGHTxWIDTH"),
        ("image_size", "99999x1", "must be HEIGHTxWIDTH"),
        ("image_mode", "CMYK", "image_mode must be one of L, RGB, got CMYK"),
    ],
)
def test_settings_are_checked(setting, value, words):
    with pytest.raises(ValueError, match=words):
        SOURCES.choose("folder:x", {setting: value})
