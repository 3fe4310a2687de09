"""NumPy archives: what is read, and what is refused in one sentence."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fedjax_private.datasets import DatasetError, Normalization, load
from fedjax_private.datasets.sources import npz

ARRAYS = {
    "x_train": np.arange(24.0).reshape(6, 4),
    "y_train": np.array(["b", "a", "b", "a", "b", "a"]),
    "x_test": np.zeros((2, 4)),
    "y_test": np.array(["a", "b"]),
}
CLIENTS = {
    "client_train": np.array(["Bern", "Zug", "Bern", "Zug", "Bern", "Chur"]),
    "client_test": np.array(["Zug", "Bern"]),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "own.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_read(path, save):
    save(path, **ARRAYS, **CLIENTS)
    dataset = load(f"npz:{path}")
    assert dataset.name == f"npz:{path}"
    np.testing.assert_array_equal(dataset.train.inputs, ARRAYS["x_train"])
    assert dataset.train.inputs.dtype == np.float32
    assert dataset.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert dataset.class_names == ("a", "b")
    assert dataset.client_names == ("Bern", "Chur", "Zug")
    assert dataset.test.clients.tolist() == [2, 0]
    assert dataset.normalization == Normalization(0.0, 1.0)


def test_public_constants_normalise(path):
    np.savez(path, **ARRAYS)
    dataset = load(f"npz:{path}", input_offset=3.0, input_scale=2.0)
    assert dataset.normalization == Normalization(3.0, 2.0)
    assert dataset.train.clients is None
    pixels = {k: v.astype(np.uint8) for k, v in ARRAYS.items() if k[0] == "x"}
    np.savez(path, **{**ARRAYS, **pixels})
    assert load(f"npz:{path}").normalization == Normalization(0.0, 255.0)
    tokens = {k: v.astype(np.int64) for k, v in ARRAYS.items() if k[0] == "x"}
    np.savez(path, **{**ARRAYS, **tokens})
    assert load(f"npz:{path}").train.inputs.dtype == np.int32
    with pytest.raises(DatasetError, match="whole numbers, which are taken as token"):
        load(f"npz:{path}", input_scale=5.0)
    np.savez(path, **ARRAYS)
    with pytest.raises(ValueError, match="a finite scale other than 0"):
        load(f"npz:{path}", input_scale=0.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_test": None}, "holds x_train, y_train, y_test; it must hold x_train, y_"),
        ({"clients_train": np.zeros(6)}, "may hold client_train and client_test"),
        (
            {"x_train": np.array([[1, None]] * 6)},
            r"never unpickled: save arrays .*astype\(str\)",
        ),
        ({"x_train": np.full((6, 4), np.nan)}, "training inputs hold 24 values"),
        ({"x_test": np.zeros((2, 5))}, r"inputs are float32 \(4,\) and .* \(5,\)"),
        ({"y_test": np.array([0, 1])}, "labels are of several kinds"),
        ({"y_test": np.array(["a"])}, r"test labels must .* \(2,\), got int32 \(1,\)"),
        ({"x_test": np.zeros((0, 4)), "y_test": ARRAYS["y_test"][:0]}, "is empty"),
        ({"client_train": np.zeros(6)}, "clients must be a vector of text, whole"),
    ],
)
def test_what_does_not_fit_is_one_sentence(path, changes, words):
    arrays = {**ARRAYS, **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DatasetError, match=words) as raised:
        load(f"npz:{path}")
    assert "\n" not in str(raised.value)


def test_what_is_no_archive(path):
    with pytest.raises(DatasetError, match="names no file"):
        load(f"npz:{path}")
    for content in (b"", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="is no NumPy archive: write it by"):
            load(f"npz:{path}")
    np.save(path.with_suffix(".npy"), ARRAYS["x_train"])
    with pytest.raises(DatasetError, match="is no NumPy archive"):
        load(f"npz:{path.with_suffix('.npy')}")


def header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def archive(path, **members):
    np.savez(path, **{k: v for k, v in ARRAYS.items() if k not in members})
    with zipfile.ZipFile(path, "a") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((1 << 50,)), "states arrays that memory cannot hold|cannot be read"),
        (header((1 << 62, 8)), "cannot"),
        (header((-1,)), "cannot"),
        (header((6, 4)) + bytes(8), "cannot be read"),
        (
            header((6, 4), "|O") + bytes(192),
            r"never unpickled: save arrays .*astype\(str\)",
        ),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read"),
        (b"no array", "x_train is no NumPy array"),
        (b"", "x_train is no NumPy array"),
    ],
)
def test_forged_members_are_one_sentence(path, content, words):
    archive(path, x_train=content)
    with pytest.raises(DatasetError, match=words) as raised:
        load(f"npz:{path}")
    assert "\n" not in str(raised.value)


def test_a_member_twice_is_refused(path):
    np.savez(path, **ARRAYS)
    with (
        zipfile.ZipFile(path, "a") as file,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        file.writestr("x_train.npy", header((6, 4)) + bytes(192))
    with pytest.raises(DatasetError, match="once each"):
        load(f"npz:{path}")


def test_what_unpacks_to_too_much_is_not_unpacked(path, monkeypatch):
    np.savez_compressed(path, **{**ARRAYS, "x_train": np.zeros((6, 4, 1000))})
    monkeypatch.setattr(npz, "_MAX_BYTES", 100_000)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DatasetError, match=r"unpacked, more than .*function of your"):
        load(f"npz:{path}")


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_damaged_archives_are_data_sets_or_one_sentence(path, at, damage):
    np.savez(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    try:
        load(f"npz:{path}")
    except DatasetError as error:
        assert "\n" not in str(error)
