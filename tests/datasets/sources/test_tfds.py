import numpy as np
import pytest
import tensorflow_datasets as tfds

from fedjax_private.datasets import DatasetError, load
from fedjax_private.datasets.sources import tfds as loading_module
from tests.datasets.sources.tiny import prepare_tiny, rows, tiny_examples


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS data directory that most tests share."""
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.mark.parametrize(("config", "mode"), [("grey", "L"), ("colour", "RGB")])
def test_a_set_prepared_elsewhere_is_read(data_dir, config, mode):
    prepare_tiny(data_dir, config)
    # This process knows no builder of the name: all is read from the files.
    dataset = load(f"fedjax_private_tiny/{config}", data_dir=data_dir)
    assert dataset.num_classes == 3
    for split, examples in (("train", dataset.train), ("test", dataset.test)):
        written = [
            (np.asarray(e["image"]).reshape(4, 5, -1), e["label"])
            for _, e in tiny_examples(split, mode)
        ]
        assert examples.inputs.shape[1:] == (4, 5, 3 if mode == "RGB" else 1)
        assert rows(*zip(*written, strict=True)) == rows(
            examples.inputs, examples.labels
        )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("no_test", "has the splits train; train and test are needed"),
        ("no_label", "feature `image` of bytes.*has image, target"),
        ("sizes", r"test inputs uint8 \(4, 6, 1\)"),
        ("deep", "no image classification set"),
    ],
)
def test_sets_that_do_not_fit(data_dir, config, words):
    prepare_tiny(data_dir, config)
    with pytest.raises(DatasetError, match=words):
        load(f"fedjax_private_tiny/{config}", data_dir=data_dir)


def test_other_file_formats_say_how_to_prepare_again(tmp_path):
    prepare_tiny(tmp_path, "grey")
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DatasetError, match=r"as tfrecord.*as array_record"):
        load("fedjax_private_tiny/grey", data_dir=tmp_path)


def test_damaged_files(tmp_path):
    prepare_tiny(tmp_path, "grey")
    for path in tmp_path.rglob("*array_record*"):
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match=r"cannot be read from.*prepare it anew"):
        load("fedjax_private_tiny/grey", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["mnist_5k", "mnist"])
def test_damaged_metadata(tmp_path, name):
    version = "1.0.0" if name == "mnist_5k" else "3.0.1"
    directory = tmp_path / name / version
    directory.mkdir(parents=True)
    for file in ("dataset_info.json", "features.json"):
        (directory / file).write_text("{ not JSON")
    with pytest.raises(DatasetError, match=r"cannot (be read|open)") as error:
        load(name, data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_a_child_that_leaves_nothing_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(loading_module, "prepare", lambda name, data_dir: None)
    with pytest.raises(DatasetError, match="incomplete copy of mnist"):
        load("mnist", data_dir=tmp_path)


def test_files_are_read_before_code(tmp_path, monkeypatch):
    # Another release of TFDS may have prepared another version than this one would.
    prepare_tiny(tmp_path, "grey")
    monkeypatch.setattr(tfds, "builder", None)
    name = "fedjax_private_tiny/grey"
    assert len(load(name, data_dir=tmp_path).test) == 3
    assert len(load(f"{name}:1.2.0", data_dir=tmp_path).test) == 3


def test_code_that_cannot_be_imported(tmp_path, monkeypatch, capsys):
    def needs_tensorflow(name, data_dir):
        print("a banner of TFDS")
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(tfds, "builder", needs_tensorflow)
    with pytest.raises(DatasetError, match="No module named 'tensorflow'") as error:
        load("mnist", data_dir=tmp_path)
    assert "fedjax-private[prepare]" in str(error.value)
    assert capsys.readouterr().out == ""
