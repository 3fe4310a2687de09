"""The peers, and the cases that they can run."""

import ast
import re
from pathlib import Path

import pytest

from experiments.benchmarks.peers import client, registry
from experiments.benchmarks.peers.environments import requirements

FOLDER = Path(registry.__file__).parent
CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}
ROUND = {"clients": 2, "examples": 8, "batch": 4, "epochs": 1}
ENCRYPTION = {"parameters": 10, "clients": 2}
INFERENCE = {"images": 1}


@pytest.mark.parametrize("name", registry.PEERS)
def test_a_peer_has_its_environment_and_modules(name):
    peer = registry.PEERS[name]
    assert peer.modules
    for module in peer.modules.values():
        assert (FOLDER / f"{module}.py").is_file()
    pins = requirements(peer.environment)
    for package in peer.packages:
        assert any(pin.startswith(f"{package}==") for pin in pins)


def imported(path):
    """The modules that a file imports, by their first names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_files_that_run_elsewhere_import_nothing_of_this_project():
    modules = {m for peer in registry.PEERS.values() for m in peer.modules.values()}
    seen, todo = set(), {"worker", *modules}
    while todo:
        name = todo.pop()
        seen.add(name)
        names = set(imported(FOLDER / f"{name}.py"))
        assert not names & {"experiments", "fedjax_private"}, name
        todo |= {n for n in names if (FOLDER / f"{n}.py").is_file()} - seen
    assert {"registry", "work", "cases"} <= seen


def test_every_suite_has_peers():
    served = {}
    for name, peer in registry.PEERS.items():
        for suite in peer.modules:
            served.setdefault(suite, []).append(name)
    assert served == {
        "clients": [
            "torch",
            "torch_func",
            "opacus_hooks",
            "opacus_ghost",
            "jax_privacy",
            "naive_jax",
        ],
        "round": ["naive_jax", "fedjax", "pfl"],
        "encryption": ["tenseal", "tenseal_public_key"],
        "inference": ["tenseal"],
    }


@pytest.mark.parametrize(
    ("peer", "case", "named"),
    [
        ("magic", CLIENTS, "peer magic is unknown"),
        ("torch", {"rounds": 3}, "no suite"),
        ("tenseal", CLIENTS, "clients"),
        ("torch", CLIENTS, "no private steps"),
        ("opacus_ghost", {**CLIENTS, "private": False}, "no non-private steps"),
    ],
)
def test_what_a_peer_cannot_do_is_said(peer, case, named):
    reason = registry.unsuitable(peer, case)
    assert named in reason
    assert reason.endswith(".") and reason.count(". ") == 0
    with pytest.raises(ValueError, match=re.escape(reason)):
        client.start(peer, case, 1, print)


def test_what_a_peer_can_do():
    assert registry.unsuitable("opacus_hooks", CLIENTS) is None
    assert registry.unsuitable("naive_jax", {**CLIENTS, "private": False}) is None
    assert registry.unsuitable("pfl", ROUND) is None
    assert registry.unsuitable("tenseal", ENCRYPTION) is None
    assert registry.unsuitable("tenseal", INFERENCE) is None
