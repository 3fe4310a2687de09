import sys

import pytest

from fedjax_private.encryption.errors import OpenFHEUnavailable
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import AUTHORITY
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.authority import KeyAuthority
from fedjax_private.trust import Decryptor, Trust


def test_missing_openfhe_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    with pytest.raises(OpenFHEUnavailable) as caught:
        load()
    sentence = str(caught.value)
    for part in ("Linux x86-64", "3.10", "2.35", "3.12", "2.38", "plain arms run"):
        assert part in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("scheme", [Scheme.CKKS, Scheme.EXACT])
def test_roles_pass_the_sentence_on(monkeypatch, scheme):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    trust = Trust(2, Decryptor.KEY_AUTHORITY)
    with pytest.raises(OpenFHEUnavailable, match="Linux x86-64"):
        KeyAuthority(Party(AUTHORITY, {}), SumRequest(scheme, 10, 2), trust)


def test_imports_load_neither_jax_nor_openfhe(in_new_process):
    loaded = in_new_process(
        "import pkgutil, importlib, fedjax_private.encryption as e\n"
        "for name in e.__all__: getattr(e, name)\n"
        "for module in pkgutil.walk_packages(e.__path__, e.__name__ + '.'):\n"
        "    if not module.name.endswith('.math.kernels'):\n"
        "        importlib.import_module(module.name)\n"
        "result = [m for m in ('jax', 'openfhe') if m in sys.modules]"
    )
    assert loaded == []


def test_parameters_and_messages_need_neither_openfhe_nor_jax(in_new_process):
    read = in_new_process(
        """
sys.modules["openfhe"] = sys.modules["jax"] = None
from fedjax_private.encryption import Kind, Material, Party, Scheme, SumRequest, derive
from fedjax_private.encryption.messages import wire
material = Material(derive(SumRequest(Scheme.EXACT, 10, 2)), bytes(16))
assert Material.from_bytes(material.to_bytes()) == material
directory = {}
one, two = Party(1, directory), Party(2, directory)
directory |= {1: one.identity.public, 2: two.identity.public}
data = wire.write(one, 2, Kind.SHARE, 0, b"hello")
result = bytes(wire.read(two, data, Kind.SHARE, payload=5).payload)
"""
    )
    assert read == b"hello"


@pytest.mark.needs_openfhe
def test_a_forked_child_does_nothing_with_keys(in_new_process):
    # Its random numbers would repeat those of its parent and siblings.
    status = in_new_process(
        """
import os, signal
import numpy as np
from fedjax_private.encryption import *
from fedjax_private.encryption.errors import ForkedProcessError
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.trust import Decryptor, Trust

directory = {}
def party(number):
    made = Party(number, directory)
    directory[number] = made.identity.public
    return made

trust = Trust(1, Decryptor.KEY_AUTHORITY)
request = SumRequest(Scheme.EXACT, 10, 1)
authority = KeyAuthority(party(AUTHORITY), request, trust)
server, client = AggregationServer(party(SERVER), authority.material), party(0)
encryptor = Encryptor(authority.material)
vector = np.zeros(10, int)
server.open(0)
server.add(encryptor.encrypt(client, SERVER, 0, vector))
message = server.sum_message()
threshold = SumRequest(Scheme.THRESHOLD_EXACT, 10, 1, holders=2)
holder = HomomorphicScheme(derive(threshold))
public, secret = holder.generate_keys()
holder.partially_decrypt(secret, public[:1])
statuses = []
for act in (
    lambda: encryptor.encrypt(client, SERVER, 1, vector),
    lambda: Encryptor(authority.material).encrypt(client, SERVER, 1, vector),
    lambda: authority.decrypt(message),
    lambda: KeyAuthority(party(AUTHORITY), request, trust),
    holder.generate_keys,
    lambda: holder.generate_share(public[1]),
    lambda: holder.partially_decrypt(secret, public[:1]),
):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # OpenFHE may wait for threads that the fork left behind
        try:
            act()
        except ForkedProcessError:
            os._exit(42)
        finally:
            os._exit(1)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
authority.decrypt(message)  # the parent still can
result = statuses
"""
    )
    assert status == [42] * 7


@pytest.mark.needs_openfhe
def test_openfhe_starts_no_threads_and_leaves_the_environment(in_new_process):
    before, after, setting = in_new_process(
        """
import os
os.environ.pop("OMP_NUM_THREADS", None)
import numpy as np
import scipy.special
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
parameters = derive(SumRequest(Scheme.THRESHOLD_EXACT, 10, 2, 2))
polynomials.remainder(np.zeros((1, 8), np.uint64), 17)  # XLA starts its own
before = len(os.listdir("/proc/self/task"))
scheme = HomomorphicScheme(parameters)
public, secret = scheme.generate_keys()
messages = scheme.encode(np.zeros((1, parameters.slots), np.int64))
ciphertexts = scheme.encrypt(scheme.public_key(public), messages)
scheme.partially_decrypt(secret, ciphertexts[:, 1])
after = len(os.listdir("/proc/self/task"))
result = before, after, os.environ.get("OMP_NUM_THREADS")
"""
    )
    assert after == before
    assert setting is None
