import gzip
import struct

import numpy as np
import pytest

from fedjax_private.datasets import DatasetError, load, read_idx


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "train-images": rng.integers(0, 256, (7, 4, 5)),
        "train-labels": np.array([0, 1, 2, 3, 4, 9, 9]),
        "t10k-images": rng.integers(0, 256, (3, 4, 5)),
        "t10k-labels": np.array([2, 0, 1]),
    }


def write(root, contents, *, separator="-", compressed=False):
    for stem, content in contents.items():
        if isinstance(content, np.ndarray):
            content = idx_bytes(content)
        name = f"{stem}{separator}idx{3 if 'images' in stem else 1}-ubyte"
        if compressed:
            name, content = f"{name}.gz", gzip.compress(content)
        (root / name).write_bytes(content)


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True])
def test_round_trip(tmp_path, separator, compressed):
    expected = arrays()
    write(tmp_path, expected, separator=separator, compressed=compressed)
    dataset = load(f"idx:{tmp_path}")
    assert dataset.name == f"idx:{tmp_path}"
    assert dataset.num_classes == 10
    for split, examples in (("train", dataset.train), ("t10k", dataset.test)):
        images = expected[f"{split}-images"][..., np.newaxis]
        np.testing.assert_array_equal(examples.inputs, images)
        np.testing.assert_array_equal(examples.labels, expected[f"{split}-labels"])


def test_compression_is_read_from_the_content(tmp_path):
    packed = {k: gzip.compress(idx_bytes(v)) for k, v in arrays().items()}
    write(tmp_path, packed)  # under names without .gz
    assert len(read_idx(tmp_path).train) == 7


def test_more_than_ten_classes(tmp_path):
    write(tmp_path, arrays() | {"train-labels": np.array([0, 1, 2, 3, 46, 9, 9])})
    assert read_idx(tmp_path).num_classes == 47


IMAGES = idx_bytes(arrays()["train-images"])
LABELS = idx_bytes(arrays()["train-labels"])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("stem", "content", "words"),
    [
        ("train-images", b"", "begins with 0x, not 0x00000803"),
        ("train-images", LABELS, "begins with 0x00000801"),
        ("train-images", b"\0\0\x0d\x03" + IMAGES[4:], "unsigned bytes"),
        ("train-images", IMAGES[:9], "ends within its header"),
        ("train-images", IMAGES[:-1], "holds 139"),
        ("train-images", IMAGES + b"\0", "holds more"),
        ("train-images", b"\0\0\x08\x03" + b"\xff" * 12 + b"\0" * 9, "too much"),
        ("train-images", b"\0\0\x08\x03" + bytes(12), "nothing to read"),
        ("train-labels", idx_bytes(np.arange(6)), "7 images but 6 labels"),
        ("train-labels", idx_bytes(np.array([0, 1, 2, 3, 4, 5, 200])), "200 is out"),
        ("t10k-images", idx_bytes(np.ones((3, 4, 6))), "test inputs"),
    ],
)
def test_broken_files(tmp_path, stem, content, words, compressed):
    raw = {name: idx_bytes(array) for name, array in arrays().items()}
    write(tmp_path, raw | {stem: content}, compressed=compressed)
    with pytest.raises(DatasetError, match=words):
        read_idx(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "tail"])
def test_broken_gzip(tmp_path, damage):
    packed = {name: gzip.compress(idx_bytes(v)) for name, v in arrays().items()}
    whole = packed["train-images"]
    packed["train-images"] = {
        "cut": whole[:-20],
        "flipped": whole[:40] + bytes(b ^ 0xFF for b in whole[40:50]) + whole[50:],
        "tail": whole + b"garbage",
    }[damage]
    write(tmp_path, packed)
    with pytest.raises(DatasetError, match=r"train-images.*(cannot be read|holds)"):
        read_idx(tmp_path)


def test_missing_files_and_directories(tmp_path):
    contents = arrays()
    del contents["t10k-labels"]
    write(tmp_path, contents)
    with pytest.raises(DatasetError, match=r"t10k-labels-idx1-ubyte.*\.gz"):
        read_idx(tmp_path)
    for name in ("idx:", f"idx:{tmp_path}/nowhere"):
        with pytest.raises(DatasetError, match="names no directory"):
            load(name)
