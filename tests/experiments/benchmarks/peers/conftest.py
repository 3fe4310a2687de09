"""Fixtures for the peers: their files as a worker imports them."""

import importlib
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.peers import client

FOLDER = Path(client.__file__).parent


@pytest.fixture
def worker_modules(monkeypatch):
    """Imports as the worker does: by bare name, from the folder of the peers."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = {path.stem for path in FOLDER.glob("*.py")}
    for name in names & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]
