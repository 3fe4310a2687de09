"""Prepares one of TFDS' own data sets, once; needs the extra `prepare` (TensorFlow).

    python -m fedjax_private.datasets.prepare mnist [--data_dir=DIR]

`prepare` runs that command as a child process and watches it, so that TensorFlow stays
out of the calling process and a download that hangs is ended soon: TFDS itself retries
a dead connection for minutes.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from fedjax_private.datasets.examples import DatasetError

WAYS_OUT = (
    "install the extra that prepares TFDS sets (pip install 'fedjax-private[prepare]') "
    "and connect to the network once, or name a directory with the four MNIST IDX "
    "files (idx:DIR), or use the set that needs neither (mnist_5k)"
)
# The two together stay below 20 seconds, the wait that a user is promised.
SILENCE_SECONDS = 12.0
GRACE_SECONDS = 2.0


def prepare(name: str, data_dir: str | os.PathLike[str]) -> None:
    """Downloads TFDS' set `name` and writes it as ArrayRecord, in a child process.

    Args:
        name: as TFDS spells it, such as `mnist` or `emnist/balanced`.
        data_dir: TFDS data directory.

    Raises:
        DatasetError: TensorFlow is not installed, the set cannot be reached, or its
            preparation fails. Within 20 seconds if nothing can be downloaded.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise DatasetError(
            f"{name} is not prepared in {data_dir}, and preparing it needs TensorFlow: "
            f"{WAYS_OUT}."
        )
    # A fresh interpreter, not a fork: JAX's threads do not survive one. Nor
    # multiprocessing's spawn, which would run the user's main module again.
    command = [sys.executable, "-m", __name__, name, f"--data_dir={data_dir}"]
    root = pathlib.Path(data_dir)
    watched = [root / "downloads", root / name.partition("/")[0].partition(":")[0]]
    failure = run_watched(command, watched)
    if failure is not None:
        raise DatasetError(f"{name} cannot be prepared ({failure}): {WAYS_OUT}.")


def run_watched(
    command: Sequence[str],
    directories: Sequence[pathlib.Path],
    *,
    silence: float = SILENCE_SECONDS,
    poll: float = 0.25,
) -> str | None:
    """Runs a command for as long as it makes progress.

    Progress is a byte more under the directories, or, since writing follows long
    computations, a tenth of the time spent computing. Waiting for a network is neither.

    Args:
        command: argument vector; its output is kept for the message.
        directories: where it writes; they need not exist.
        silence: seconds without progress after which it is ended.
        poll: seconds between looks.

    Returns:
        None if the command succeeded, else why not, as half a sentence.
    """
    import psutil  # type: ignore[import-untyped]  # a requirement of TFDS

    package_root = str(pathlib.Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package_root]))
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            process = psutil.Process(child.pid)
            seen_bytes, seen_cpu, seen_at = -1, 0.0, time.monotonic()
            while child.poll() is None:
                time.sleep(poll)
                try:
                    times = process.cpu_times()
                    cpu = times.user + times.system
                except psutil.Error:  # it has just ended
                    break
                held = sum(map(_bytes_under, directories))
                now = time.monotonic()
                if held > seen_bytes or cpu - seen_cpu > silence / 10:
                    seen_bytes, seen_cpu, seen_at = held, cpu, now
                elif now - seen_at > silence:
                    return f"no data arrived for {silence:.0f} seconds"
            if child.wait() == 0:
                return None
            output.seek(0)
            lines = output.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            return last.strip()[:300] or f"exit status {child.returncode}"
        finally:
            _end(child)


def _bytes_under(directory: pathlib.Path) -> int:
    """Bytes in the files below a directory, which may be changing or missing."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            # May have been renamed or deleted since it was listed.
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()  # lets it delete what it has half written
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares a set in this process, which may import TensorFlow. Returns 0."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name if __spec__ else __name__}",
        description="Downloads a TFDS data set and writes it as ArrayRecord.",
    )
    parser.add_argument("name", help="as TFDS spells it: mnist, emnist/balanced, ...")
    parser.add_argument("--data_dir", help="TFDS data directory (default: TFDS' own)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    import tensorflow_datasets as tfds

    # Makes its name known to TFDS.
    import fedjax_private.datasets.sources.mnist_5k_builder  # noqa: F401

    builder = tfds.builder(options.name, data_dir=options.data_dir)
    builder.download_and_prepare(
        file_format="array_record",
        # A copy from Google's bucket would come in another format, and asking for one
        # is one more connection to wait for.
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
