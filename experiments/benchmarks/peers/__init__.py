"""Other libraries at the same work, each in a virtual environment of its own.

`worker.py` and what it loads run in those environments, and import nothing from here.
"""

from experiments.benchmarks.peers.client import Worker, start
from experiments.benchmarks.peers.environments import PeerUnavailable
from experiments.benchmarks.peers.registry import (
    PEERS,
    STAGES,
    SUITES,
    Peer,
    serving,
    unsuitable,
)

__all__ = [
    "PEERS",
    "STAGES",
    "SUITES",
    "Peer",
    "PeerUnavailable",
    "Worker",
    "serving",
    "start",
    "unsuitable",
]
