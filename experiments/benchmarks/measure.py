"""Interleaved timing: every contender in turn, again and again, after a warm-up.

The speed of a shared machine drifts by more than what is to be compared. Contenders
that take turns see the same drift, so ratios within one call can be trusted where
seconds of different calls cannot.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import peers


class Work(Protocol):
    """Something that can be repeated, warm; such as a peer's `Worker`."""

    def repeat(self, times: int) -> list[Any]:
        """Seconds of each time, or a list of the seconds of its parts."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A function whose results are waited for.

    Attributes:
        call: one time; returns JAX arrays, or nothing that has to be waited for.
    """

    call: Callable[[], Any]

    def repeat(self, times: int) -> list[float]:
        """See `Work`."""
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            jax.block_until_ready(self.call())
            seconds.append(time.perf_counter() - start)
        return seconds


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        suite: its suite.
        name: in the suite.
        fields: that describe it in its row.
        open: sets our own work up and warms it: -> (work, further fields of the row).
        for_peers: what the peers are given; None where none is asked.
        parts: names of what one time consists of, where it is more than one thing.
        examples: that one time processes, where speed is in examples a second.
        operations: floating-point operations an example needs, where a limit follows.
        most: repeats that are worth their time.
    """

    suite: str
    name: str
    fields: Mapping[str, Any]
    open: Callable[[], tuple[Work, Mapping[str, Any]]]
    for_peers: Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()
    examples: int | None = None
    operations: float | None = None
    most: int = 1_000


def matrix_product() -> tuple[Work, float]:
    """Square float32 products on all devices at once, and their operations."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    ones = [jnp.ones((size, size), device=device) for device in jax.local_devices()]
    product = jax.jit(lambda a: a @ a)
    call = Call(lambda: [product(a) for a in ones])
    call.repeat(2)
    return call, 2.0 * size**3 * len(ones)


def memory_copy() -> tuple[Work, float]:
    """Reading and writing arrays beyond any cache on all devices, and their bytes."""
    size = 1 << 25
    ones = [jnp.ones(size, device=device) for device in jax.local_devices()]
    add = jax.jit(lambda a: a + 1.0)
    call = Call(lambda: [add(a) for a in ones])
    call.repeat(2)
    return call, 2.0 * 4 * size * len(ones)


def limits(repeats: int) -> dict[str, float]:
    """Rates of the machine: float32 matrix products, and memory."""
    found = {}
    for name, measure in (
        ("matrix_product_gflops", matrix_product),
        ("memory_gigabytes_per_second", memory_copy),
    ):
        work, amount = measure()
        found[name] = amount / statistics.median(work.repeat(repeats)) / 1e9
    return found


def _at_best_threads(
    name: str, case: Mapping[str, Any], cores: int, say: Callable[[str], None]
) -> peers.Worker:
    """The peer with as many threads as make it fastest: one, or one a core."""
    workers, failures = [], []
    for threads in sorted({1, cores}):
        try:
            workers.append(peers.start(name, case, threads, say))
        except peers.PeerUnavailable as error:  # noqa: PERF203
            failures.append(error)
    if not workers:
        raise failures[0]
    if len(workers) == 1:
        return workers[0]
    times = [min(np.sum(w.repeat(3), axis=-1, keepdims=True).ravel()) for w in workers]
    best = int(np.argmin(times))
    workers[1 - best].close()
    return workers[best]


def measure(
    case: Case,
    wanted: Iterable[str],
    repeats: int,
    cores: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Times a case against the peers that can run it; returns its row.

    A peer that cannot be had is named in the row, with the reason, and left out.
    """
    repeats = min(repeats, case.most)
    with contextlib.ExitStack() as stack:
        work, fields = case.open()
        contenders: dict[str, Work] = {"": work}
        limit, operations = matrix_product()
        if case.operations is not None:
            contenders["limit"] = limit
        missing, ready = {}, {}
        for name in wanted if case.for_peers is not None else ():
            assert case.for_peers is not None
            if peers.unsuitable(name, case.for_peers):
                continue
            try:
                say(f"{case.suite}/{case.name}: setting up {name}")
                worker = _at_best_threads(name, case.for_peers, cores, say)
                contenders[name] = stack.enter_context(worker)
                ready[name] = dict(worker.ready)
            except peers.PeerUnavailable as error:
                missing[name] = str(error)
                say(f"{name} is left out: {error}")
        say(f"{case.suite}/{case.name}: {repeats} times {len(contenders)} contenders")
        times: dict[str, list[Any]] = {name: [] for name in contenders}
        warm = min(len(contenders) - 1, 1)
        for _ in range(repeats):
            for name in [*contenders]:
                try:
                    # Once untimed: caches are its own again, and threads of the one
                    # before, which may spin for a while, have come to rest.
                    times[name] += contenders[name].repeat(1 + warm)[warm:]
                except peers.PeerUnavailable as error:  # noqa: PERF203
                    missing[name] = str(error)
                    del contenders[name], times[name]
    rate = case.examples or 1.0
    ours = times.pop("")
    row: dict[str, Any] = {"suite": case.suite, "case": case.name, **case.fields}
    row["repeats"], row["parts"] = repeats, list(case.parts)
    if case.examples is not None:
        low, middle, high = np.quantile(np.divide(rate, ours), [0.25, 0.5, 0.75])
        row["examples_per_second"] = middle
        row["examples_per_second_quartiles"] = [low, high]
        if case.operations is not None:
            per_second = operations / statistics.median(times.pop("limit"))
            row["limit_examples_per_second"] = per_second / case.operations
        found = {name: rate / statistics.median(t) for name, t in times.items()}
    else:
        row |= _seconds(ours, case.parts)
        found = {name: _seconds(t, case.parts) for name, t in times.items()}
        if not case.parts:
            found = {name: values["seconds"] for name, values in found.items()}
    row["peers"] = found
    row["peers_set_up"] = ready  # variants, versions, warm-up, bytes a parameter
    row["peers_missing"] = missing
    return row | dict(fields)


def _seconds(times: list[Any], parts: tuple[str, ...]) -> dict[str, Any]:
    """Medians and quartiles of seconds, by part."""
    columns = np.array(times, np.float64).reshape(len(times), -1)
    low, middle, high = np.quantile(columns, [0.25, 0.5, 0.75], axis=0)
    if not parts:
        return {"seconds": middle[0], "seconds_quartiles": [low[0], high[0]]}
    found: dict[str, Any] = {}
    for i, part in enumerate(parts):
        found[f"seconds_{part}"] = middle[i]
        found[f"seconds_{part}_quartiles"] = [low[i], high[i]]
    return found
