import sys

import pytest

from fedjax_private.encryption.errors import OpenFHEUnavailable
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import AUTHORITY
from fedjax_private.encryption.openfhe import backend
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
def admitting(client):
    made = Encryptor(authority.material)
    made.admit(client, authority.vouch([client.number]).values())
    return made
encryptor = admitting(client)
vector = np.zeros(10, int)
server.open(0)
upload, declarations = encryptor.encrypt(client, SERVER, 0, vector)
authority.declare(declarations[AUTHORITY])
server.add(upload)
message = server.sum_message()
threshold = SumRequest(Scheme.THRESHOLD_EXACT, 10, 1, holders=2)
holder = HomomorphicScheme(derive(threshold))
public, secret = holder.generate_keys()
holder.partially_decrypt(secret, public[:1])
statuses = []
for act in (
    lambda: encryptor.encrypt(client, SERVER, 1, vector),
    lambda: admitting(client).encrypt(client, SERVER, 1, vector),
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


# A parent that used `openfhe` itself, before this library.

_CHILDREN = """
import importlib, os
{before}
def child():
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            {inside}
        except Exception as error:
            said = f"{{type(error).__name__}}: {{error}}".encode()
        os.write(writing, said[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()
result = child(), child()
"""

_MAKE_A_KEY = """
            from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
            from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
            scheme = HomomorphicScheme(derive(SumRequest(Scheme.EXACT, 10, 1)))
            said = scheme.ring.pack(scheme.generate_keys()[0])[:1000]
"""

_USE_IT = """
openfhe = importlib.import_module("openfhe")
settings = openfhe.CCParamsBGVRNS()
settings.SetPlaintextModulus(65537)
settings.SetMultiplicativeDepth(1)
context = openfhe.GenCryptoContext(settings)
context.Enable(openfhe.PKE)
context.KeyGen()
"""


_HIDE_IT = """
import sys
del sys.modules["openfhe"], openfhe
"""


@pytest.mark.needs_openfhe
@pytest.mark.parametrize("then", ["", _HIDE_IT], ids=["and shows it", "and hides it"])
def test_children_of_a_parent_that_used_openfhe_itself_make_no_keys(
    in_new_process, then
):
    """Stranger: compares keys of processes that were forked from one that had used
    `openfhe` -> nothing; such processes make no keys."""
    script = _CHILDREN.format(before=_USE_IT + then, inside=_MAKE_A_KEY)
    for said in in_new_process(script):
        assert said.startswith(b"ForkedProcessError: openfhe was imported by other")
        assert said.endswith(b"'spawn' method.")


@pytest.mark.needs_openfhe
def test_children_that_load_openfhe_themselves_make_different_keys(in_new_process):
    one, other = in_new_process(_CHILDREN.format(before="", inside=_MAKE_A_KEY))
    assert len(one) == len(other) == 1000
    assert one != other


@pytest.mark.needs_openfhe
def test_a_process_that_was_not_forked_may_have_used_openfhe_before(in_new_process):
    loaded = in_new_process(
        _USE_IT.replace("openfhe =", "import importlib\nopenfhe =", 1)
        + "from fedjax_private.encryption.openfhe.backend import load\n"
        + "result = load().openfhe is openfhe"
    )
    assert loaded


@pytest.mark.parametrize(
    ("stat", "executed"),
    [
        ("1 (python) S 0 1 1 0 -1 4194304 7", True),
        ("1 (a) b (c) S 0 1 1 0 -1 4194304 7", True),
        ("1 (python) S 0 1 1 0 -1 4194368 7", False),  # 0x40: forked, no exec since
        ("1 (python) S 0 1 1 0 -1 0 7", False),  # a system that shows no flags
        (None, False),
    ],
)
def test_only_the_kernels_word_proves_that_a_process_is_fresh(
    stat, executed, monkeypatch
):
    def read(path):
        if stat is None:
            raise FileNotFoundError(path)
        return stat

    monkeypatch.setattr(backend.Path, "read_text", read)
    assert backend._executed() is executed
