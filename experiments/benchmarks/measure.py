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
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import peers


class Work(Protocol):
    """Work that has been warmed up, such as a peer's `Worker`."""

    def repeat(self, times: int) -> list[Any]:
        """Seconds of each repeat, or a list of the seconds of its parts."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A function, timed until its results are computed.

    Attributes:
        call: does the work once; the JAX arrays that it returns are waited for.
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
        suite: name of its suite.
        name: in the suite.
        fields: of its row, which describe it.
        open: () -> (our own work, warmed up; further fields of the row).
        for_peers: the case as peers get it; None compares with no peer.
        parts: names of the parts of a repeat, if they are timed one by one.
        examples: of one repeat, if speed is given in examples a second.
        operations: floating-point operations of an example, if the machine's limit is
            to be given too.
        most: most repeats, for work that takes long.
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
    """Square float32 products on all devices at once, and operations a repeat."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    ones = [jnp.ones((size, size), device=device) for device in jax.local_devices()]
    product = jax.jit(lambda a: a @ a)
    call = Call(lambda: [product(a) for a in ones])
    call.repeat(2)
    return call, 2.0 * size**3 * len(ones)


def memory_copy() -> tuple[Work, float]:
    """Copies of arrays larger than caches on all devices, and bytes a repeat."""
    size = 1 << 25
    ones = [jnp.ones(size, device=device) for device in jax.local_devices()]
    add = jax.jit(lambda a: a + 1.0)
    call = Call(lambda: [add(a) for a in ones])
    call.repeat(2)
    return call, 2.0 * 4 * size * len(ones)


def limits(repeats: int) -> dict[str, float]:
    """The machine's rates: of float32 matrix products, and of memory."""
    rates = {}
    for name, measure in (
        ("matrix_product_gflops", matrix_product),
        ("memory_gigabytes_per_second", memory_copy),
    ):
        work, amount = measure()
        rates[name] = amount / statistics.median(work.repeat(repeats)) / 1e9
    return rates


def _at_best_threads(
    name: str, case: Mapping[str, Any], cores: int, say: Callable[[str], None]
) -> peers.Worker:
    """A peer with one thread, or with one a core: whichever is faster here."""
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
    with contextlib.ExitStack() as stack:
        for worker in workers:
            stack.enter_context(worker)
        tried = [np.sum(w.repeat(3), axis=-1, keepdims=True) for w in workers]
        best = int(np.argmin([np.min(seconds) for seconds in tried]))
        stack.pop_all()
    workers[1 - best].close()
    return workers[best]


def measure(
    case: Case,
    wanted: Iterable[str],
    repeats: int,
    cores: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Times a case against peers; returns its row.

    Args:
        case: to be timed.
        wanted: names of peers. Those that the case does not suit are left out; so are
            those that cannot run here, which the row names with the reason.
        repeats: timed turns of each contender.
        cores: that this process may use.
        say: is told of progress.
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
                    # Once untimed: the caches fill again, and the previous contender's
                    # threads, which may spin for a while, come to rest.
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
        others = {name: rate / statistics.median(t) for name, t in times.items()}
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
