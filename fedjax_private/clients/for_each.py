"""Maps a client function over the client axis, in one of several ways that agree."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

# (broadcast, *per_client) -> per-client results. Every argument after the first, and
# every result, is a pytree of arrays with a leading client axis.
ForEach: TypeAlias = Callable[..., Any]

# (broadcast, all args) -> result, of one client or of many.
Mapped: TypeAlias = Callable[[Any, Any], Any]

CLIENT_AXIS = "clients"


class ClientError(RuntimeError):
    """A client function failed; the message names the client."""


def use_all_cores() -> int:
    """Splits the CPU into one XLA device per core, so that clients run in parallel.

    A single XLA device leaves most of a CPU idle in programs of many small operations.
    Call this function before JAX is first used, as `runs.environment.start` does;
    later, or on another platform, it changes nothing.

    Returns:
        The number of local devices that JAX then has.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    with contextlib.suppress(RuntimeError):  # JAX already runs: its devices are fixed
        jax.config.update("jax_num_cpu_devices", cores or os.cpu_count() or 1)
    return jax.local_device_count()


def client_mesh() -> Mesh:
    """Returns all local devices along one axis, over which clients are spread."""
    return Mesh(np.array(jax.local_devices()), (CLIENT_AXIS,))


def _stack(results: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def _clients(per_client: Any) -> int:
    return int(jax.tree.leaves(per_client)[0].shape[0])


def _rows(per_client: Any, rows: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], per_client)


def _vmap(client: Mapped) -> Mapped:
    return jax.vmap(client, in_axes=(None, 0))


def _map(client: Mapped) -> Mapped:
    def run(broadcast: Any, per_client: Any) -> Any:
        return jax.lax.map(lambda args: client(broadcast, args), per_client)

    return run


def _loop(client: Mapped) -> Mapped:
    def run(broadcast: Any, per_client: Any) -> Any:
        clients = range(_clients(per_client))
        return _stack([client(broadcast, _rows(per_client, i)) for i in clients])

    return run


def _shard_map(client: Mapped) -> Mapped:
    # XLA's Shardy partitioner is the default of newer JAX releases. The older one of
    # JAX 0.6 sums the operand of a one-dimensional sort inside a manually sharded loop
    # over the devices: orders are silently wrong, and devices whose loops differ in
    # length deadlock.
    if getattr(jax.config, "jax_use_shardy_partitioner", None) is False:
        jax.config.update("jax_use_shardy_partitioner", True)
    sharded = PartitionSpec(CLIENT_AXIS)
    return jax.shard_map(
        _map(client),
        mesh=client_mesh(),
        in_specs=(PartitionSpec(), sharded),
        out_specs=sharded,
        check_vma=False,
    )


def _debug(client: Mapped) -> Mapped:
    def run(broadcast: Any, per_client: Any) -> Any:
        results = []
        for index in range(_clients(per_client)):
            try:
                with jax.disable_jit():
                    result = client(broadcast, _rows(per_client, index))
            except Exception as error:
                raise ClientError(f"client {index} of this chunk: {error}") from error
            for leaf in jax.tree.leaves(result):
                if jnp.issubdtype(leaf.dtype, jnp.inexact) and not jnp.all(
                    jnp.isfinite(leaf)
                ):
                    raise ClientError(
                        f"client {index} of this chunk: its result is not finite."
                    )
            results.append(result)
        return _stack(results)

    return run


# Name -> a way to map a client function over clients; see `for_each_client`.
BACKENDS: Mapping[str, Callable[[Mapped], Mapped]] = {
    "vmap": _vmap,
    "map": _map,
    "loop": _loop,
    "shard_map": _shard_map,
    "debug": _debug,
}


def _filling(spread: ForEach) -> ForEach:
    """Returns `spread` for any number of clients, not only a multiple of the devices'.

    The first clients once more fill the last device. These results are dropped on the
    host: cutting an array that is spread over devices would make them communicate.
    """
    devices = client_mesh().size

    def run(broadcast: Any, *per_client: Any) -> Any:
        clients = _clients(per_client)
        missing = -clients % devices
        if missing == 0:
            return spread(broadcast, *per_client)
        filled = _rows(per_client, np.arange(clients + missing) % clients)
        return _rows(jax.device_get(spread(broadcast, *filled)), slice(clients))

    return run


def for_each_client(
    client: ForEach, backend: str = "auto", *, donate: Sequence[int] = ()
) -> ForEach:
    """Maps a per-client function over a leading client axis.

    Args:
        client: `(broadcast, *args) -> result` for one client; pure.
        backend: "vmap", "map" (one after another), "loop" (unrolled), "shard_map"
            (spread over all local devices, one after another on each), "debug"
            (not jitted; an exception or a result that is not finite names the client),
            or "auto". They agree to float32 rounding. "auto" was measured to be fast:
            "shard_map" on CPUs, where under vmap per-client kernels would become
            grouped convolutions, which XLA runs slowly there; elsewhere "vmap".
        donate: places among `args` whose device buffers the results may take over;
            such an argument cannot be used again.

    Returns:
        `(broadcast, *args) -> results`, jitted (except "debug"), where every leaf of
        `args` and `results` has a leading client axis.

    Raises:
        ValueError: unknown backend.
    """
    if backend == "auto":
        backend = "shard_map" if jax.default_backend() == "cpu" else "vmap"
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r}: choose auto, {', '.join(BACKENDS)}."
        )
    mapped = BACKENDS[backend](lambda broadcast, args: client(broadcast, *args))

    def run(broadcast: Any, *per_client: Any) -> Any:
        return mapped(broadcast, per_client)

    if backend == "debug":
        return run
    compiled = jax.jit(run, donate_argnums=[1 + place for place in donate])
    return _filling(compiled) if backend == "shard_map" else compiled
