"""Suite `encryption`: one client's upload, the server's sum, one decryption."""

import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.measure import Case, Work
from fedjax_private import aggregation
from fedjax_private.aggregation.ckks import CkksAggregation
from fedjax_private.trust import Decryptor, Trust


class _Sums:
    def __init__(self, parameters: int, clients: int) -> None:
        trust = Trust(uploads=clients, decryptor=Decryptor.KEY_AUTHORITY)
        made = aggregation.make("ckks", vector_size=parameters, trust=trust)
        assert isinstance(made, CkksAggregation)
        self._sums, self._clients, self._round = made, clients, 0
        self.vector = np.random.default_rng(0).normal(size=parameters)
        self.bytes_per_parameter = 0.0
        self.max_error = 0.0

    def repeat(self, times: int) -> list[list[float]]:
        """See `Work`: seconds to encrypt one upload, to add all, to decrypt."""
        seconds = []
        for _ in range(times):
            self._round += 1
            self._sums.server.open(self._round)
            ticks, spent = time.perf_counter, [0.0, 0.0, 0.0]
            for client in range(self._clients):
                start = ticks()
                upload = self._sums.encryptor.encrypt(self._round, client, self.vector)
                encrypted = ticks()
                self._sums.server.add(upload)
                spent[0] += (encrypted - start) / self._clients
                spent[1] += ticks() - encrypted
            self.bytes_per_parameter = len(upload) / self.vector.size
            start = ticks()
            message = self._sums.server.sum_message()
            summed = ticks()
            total = self._sums.authority.decrypt(message)
            spent[1] += summed - start
            spent[2] = ticks() - summed
            self.max_error = float(np.abs(total - self._clients * self.vector).max())
            seconds.append(spent)
        return seconds


def _open(parameters: int, clients: int) -> tuple[Work, Mapping[str, Any]]:
    work = _Sums(parameters, clients)
    work.repeat(1)
    fields = {
        "bytes_per_parameter": work.bytes_per_parameter,
        "max_error": work.max_error,
    }
    return work, fields


def encryption_cases(quick: bool) -> list[Case]:
    """CKKS sums of a small model's updates and of a million parameters."""
    sizes = [(1_000, 2)] if quick else [(26_010, 32), (1_000_000, 8)]
    return [
        Case(
            suite="encryption",
            name=f"ckks_{parameters}",
            fields={"parameters": parameters, "clients": clients, "scheme": "ckks"},
            open=functools.partial(_open, parameters, clients),
            for_peers={"parameters": parameters, "clients": clients},
            parts=("encrypt", "add", "decrypt"),
        )
        for parameters, clients in sizes
    ]
