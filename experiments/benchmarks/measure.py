"""Interleaved timing: after a warm-up, contenders take turns.

The speed of a shared machine drifts by more than the differences to be measured.
Contenders that take turns see the same drift: compare ratios within one call, never
seconds of different calls.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers import client
from experiments.benchmarks.peers.environments import PeerUnavailable
from experiments.benchmarks.peers.registry import unsuitable

# Does the work once, warmed up; returns its seconds, or a list of those of its parts.
Work = Callable[[], Any]


def timed(call: Callable[[], Any]) -> Work:
    """Work that ends when the JAX arrays that `call` returns are computed."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    return once


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: in its suite.
        fields: of its row, which describe it.
        open: () -> (our own work; further fields of the row).
        for_peers: the case as peers get it; None compares with no peer.
        parts: names of the parts of the work, if they are timed one by one.
        examples: of the work, if speed is given in examples a second.
        operations: floating-point operations of an example, if the machine's limit is
            to be given too.
        most: most repeats, for work that takes long.
    """

    name: str
    fields: Mapping[str, Any]
    open: Callable[[], tuple[Work, Mapping[str, Any]]]
    for_peers: Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()
    examples: int | None = None
    operations: float | None = None
    most: int = 1_000


def _on_all_devices(
    operation: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]
) -> Work:
    """An operation on an array of ones on every device at once."""
    ones = [jnp.ones(shape, device=device) for device in jax.local_devices()]
    compiled = jax.jit(operation)
    work = timed(lambda: [compiled(a) for a in ones])
    work(), work()
    return work


def matrix_product() -> tuple[Work, float]:
    """Square float32 products on all devices at once, and their operations."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    work = _on_all_devices(lambda a: a @ a, (size, size))
    return work, 2.0 * size**3 * jax.local_device_count()


def memory_copy() -> tuple[Work, float]:
    """Copies of arrays larger than caches on all devices at once, and their bytes."""
    size = 1 << 25
    work = _on_all_devices(lambda a: a + 1.0, (size,))
    return work, 2.0 * 4 * size * jax.local_device_count()


def limits(repeats: int) -> dict[str, float]:
    """The machine's rates: of float32 matrix products, and of memory."""
    rates = {}
    for name, prepare in (
        ("matrix_product_gflops", matrix_product),
        ("memory_gigabytes_per_second", memory_copy),
    ):
        work, amount = prepare()
        seconds = statistics.median(work() for _ in range(repeats))
        rates[name] = amount / seconds / 1e9
    return rates


def _at_best_threads(
    name: str, case: Mapping[str, Any], cores: int, say: Callable[[str], None]
) -> client.Worker:
    """A peer with one thread, or with one a core: whichever is faster here."""
    workers, failures = [], []
    for threads in sorted({1, cores}):
        try:
            workers.append(client.start(name, case, threads, say))
        except PeerUnavailable as error:  # noqa: PERF203
            failures.append(error)
    if not workers:
        raise failures[0]
    if len(workers) == 1:
        return workers[0]
    with contextlib.ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.close)
        tried = [np.sum(w.repeat(3), axis=-1, keepdims=True) for w in workers]
        best = int(np.argmin([np.min(seconds) for seconds in tried]))
        stack.pop_all()
    workers[1 - best].close()
    return workers[best]


def _repeated(work: Work) -> Callable[[int], list[Any]]:
    return lambda times: [work() for _ in range(times)]


def measure(
    suite: str,
    case: Case,
    wanted: Iterable[str],
    repeats: int,
    cores: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Times a case against peers; returns its row.

    Args:
        suite: its name.
        case: to be timed.
        wanted: names of peers. Those that the case does not suit are left out; so are
            those that cannot run here, which the row names with the reason.
        repeats: timed turns of each contender.
        cores: that this process may use.
        say: is told of progress.
    """
    repeats, for_peers = min(repeats, case.most), case.for_peers
    with contextlib.ExitStack() as stack:
        work, fields = case.open()
        contenders = {"": _repeated(work)}
        if case.operations is not None:
            limit, operations = matrix_product()
            contenders["limit"] = _repeated(limit)
        missing, ready = {}, {}
        for name in wanted:
            if for_peers is None or unsuitable(name, for_peers):
                continue
            try:
                say(f"{suite}/{case.name}: setting up {name}")
                worker = _at_best_threads(name, for_peers, cores, say)
            except PeerUnavailable as error:
                missing[name] = str(error)
                say(f"{name} is left out: {error}")
            else:
                stack.callback(worker.close)
                contenders[name] = worker.repeat
                ready[name] = dict(worker.ready)
        say(f"{suite}/{case.name}: {repeats} times {len(contenders)} contenders")
        times: dict[str, list[Any]] = {name: [] for name in contenders}
        warm = min(len(contenders) - 1, 1)
        for _ in range(repeats):
            for name in [*contenders]:
                try:
                    # Once untimed: the caches fill again, and the previous contender's
                    # threads, which may spin for a while, come to rest.
                    times[name] += contenders[name](1 + warm)[warm:]
                except PeerUnavailable as error:  # noqa: PERF203
                    missing[name] = str(error)
                    del contenders[name], times[name]
    ours = times.pop("")
    row: dict[str, Any] = {"suite": suite, "case": case.name, **case.fields}
    row |= {"repeats": repeats, "parts": list(case.parts)}
    if case.examples is not None:
        rates = np.divide(case.examples, ours)
        low, middle, high = np.quantile(rates, [0.25, 0.5, 0.75])
        row["examples_per_second"] = middle
        row["examples_per_second_quartiles"] = [low, high]
        if case.operations is not None:
            per_second = operations / statistics.median(times.pop("limit"))
            row["limit_examples_per_second"] = per_second / case.operations
        others = {n: case.examples / statistics.median(t) for n, t in times.items()}
    else:
        row |= _seconds(ours, case.parts)
        others = {name: _seconds(t, case.parts) for name, t in times.items()}
        if not case.parts:
            others = {name: values["seconds"] for name, values in others.items()}
    row["peers"] = others
    row["peers_set_up"] = ready  # variants, versions, warm-up, bytes a parameter
    row["peers_missing"] = missing
    return row | dict(fields)


def _seconds(times: list[Any], parts: tuple[str, ...]) -> dict[str, Any]:
    """Medians and quartiles of seconds, by part."""
    columns = np.array(times, np.float64).reshape(len(times), -1)
    low, middle, high = np.quantile(columns, [0.25, 0.5, 0.75], axis=0)
    if not parts:
        return {"seconds": middle[0], "seconds_quartiles": [low[0], high[0]]}
    values: dict[str, Any] = {}
    for i, part in enumerate(parts):
        values[f"seconds_{part}"] = middle[i]
        values[f"seconds_{part}_quartiles"] = [low[i], high[i]]
    return values
