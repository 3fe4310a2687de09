"""What the server holds, what it could do with it, and whether randomness repeats."""

import gc
import itertools
import pickle
import sys
import types

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER, TAG_BYTES
from fedjax_private.encryption.openfhe.backend import load
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.workers import Workers
from tests.encryption.fixtures import sum_request

pytestmark = pytest.mark.needs_openfhe

UPLOADS, VALUES = 3, 5000
REQUESTS = {
    "ckks": SumRequest(Scheme.CKKS, VALUES, UPLOADS),
    "unprotected": sum_request(Scheme.CKKS, VALUES, UPLOADS, protect=False),
    "exact": SumRequest(Scheme.EXACT, VALUES, UPLOADS),
}


@pytest.fixture(scope="module", params=REQUESTS)
def net(request, network):
    return network(REQUESTS[request.param])


# What is held.


def reachable(*roots):
    """Everything that the roots refer to, directly or not.

    Stops at modules and classes, and leaves out the globals of functions, from which
    the whole interpreter, this test included, could be reached.
    """
    seen, stack = {}, list(roots)
    while stack:
        value = stack.pop()
        if id(value) in seen or isinstance(value, types.ModuleType | type):
            continue
        seen[id(value)] = value
        skipped = getattr(value, "__globals__", None)
        stack.extend(r for r in gc.get_referents(value) if r is not skipped)
    return list(seen.values())


def secret_keys(*roots):
    private = load().openfhe.PrivateKey, Factor
    return [value for value in reachable(*roots) if isinstance(value, private)]


def global_values():
    return [
        value
        for name, module in list(sys.modules.items())
        if name.startswith("fedjax_private")
        for value in list(vars(module).values())
    ]


def in_the_middle_of_a_round(net):
    """The server after two uploads, and the bytes that it got until then."""
    number = net.open()
    received = [net.material.without_key().to_bytes()]
    for client in range(2):
        received.append(net.upload(client, number, net.vectors()[client]))
        net.server.add(received[-1])
    return net.server, received


def test_nothing_that_the_server_reaches_is_a_secret_key(net):
    """Server: searches its memory for a secret key -> nothing."""
    server, received = in_the_middle_of_a_round(net)
    assert secret_keys(server, received, global_values()) == []
    # The walk does reach what it holds, and does find the key where there is one.
    shape = net.parameters.rows, net.ring.limbs, net.ring.dimension
    arrays = [v for v in reachable(server) if isinstance(v, np.ndarray)]
    assert [array.shape for array in arrays] == [shape]
    assert len(secret_keys(net.authority)) == 1
    server.stolen = {"deep": [lambda authority=net.authority: authority]}
    assert len(secret_keys(server)) == 1
    del server.stolen


def test_the_server_reaches_nothing_of_openfhe(net):
    server, received = in_the_middle_of_a_round(net)
    theirs = [
        value
        for value in reachable(server, received)
        if type(value).__module__.startswith("openfhe")
    ]
    assert theirs == []
    # Nor the public key.
    held = [value for value in reachable(server) if isinstance(value, bytes)]
    assert net.material.key_id in held
    assert net.material.public_key not in held


def test_clients_reach_no_secret_key(net):
    """Client: searches its memory for a secret key -> nothing."""
    assert secret_keys(net.encryptor, net.clients, net.material) == []
    public = load().openfhe.PublicKey
    assert any(isinstance(value, public) for value in reachable(net.encryptor))


def test_roles_cannot_be_pickled(net):
    for role in (net.authority, net.encryptor, net.server, net.clients[0]):
        with pytest.raises(TypeError):
            pickle.dumps(role)


# What is sent.


def windows(data, size, step):
    return [data[start : start + size] for start in range(0, len(data) - size, step)]


def secret_windows(net):
    """Pieces of the secret key: of its residues as words, and packed bit by bit."""
    (key,) = secret_keys(net.authority)
    residues = key.residues
    raw, packed = residues.astype("<u8").tobytes(), net.ring.pack(residues[None])
    assert len(set(residues.ravel().tolist())) > net.ring.dimension // 2
    return windows(raw, 24, 64) + windows(packed, 16, 32), raw, packed


def test_no_bytes_that_leave_the_authority_hold_the_secret_key(net):
    """Stranger: searches all messages of the authority for pieces of the secret key ->
    nothing."""
    pieces, raw, packed = secret_windows(net)
    assert len(pieces) > 400
    sent = [net.material.to_bytes(), pickle.dumps(net.material)]
    for _ in range(3):
        number = net.open()
        net.add(number, net.vectors())
        message = net.server.sum_message()
        sent += [message, net.authority.decrypt(message)]
    sent = b"".join(sent)
    assert not any(piece in sent for piece in pieces)
    # Either form would have been found.
    for data in (raw, packed):
        hidden = sent[:1001] + data + sent[1001:]
        found = sum(piece in hidden for piece in pieces)
        assert found >= net.ring.dimension * net.ring.limbs // 8 - 1


# What could be done with it.

ATTACK = """
import types
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fedjax_private.encryption import *
from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.openfhe.schemes import HomomorphicScheme
from fedjax_private.encryption.messages import channels
from fedjax_private.encryption.messages.wire import read, write
from fedjax_private.trust import Decryptor, Trust

material = Material.from_bytes(data["material"])
p = material.parameters
scheme = HomomorphicScheme(p)
directory = dict(data["directory"])
# An identity with the private key of the server.
stolen = X25519PrivateKey.from_private_bytes(data["identity"])
channels.X25519PrivateKey = types.SimpleNamespace(generate=lambda: stolen)
identity = Identity()
channels.X25519PrivateKey = X25519PrivateKey
server = Party(SERVER, directory)
server.identity = identity
result = {"read": 0, "near": 0.0, "roles": []}

ciphertexts = []
for message in data["uploads"]:
    payload = 2 * p.rows * scheme.ring.polynomial_bytes
    got = read(
        server, message, Kind.UPLOAD, payload=payload, most_numbers=9,
        key_id=material.key_id,
    )
    result["read"] += 1
    ciphertexts.append(scheme.ring.unpack(got.payload))
ciphertexts.append(scheme.ring.reduce(sum(ciphertexts)))
ciphertexts.append(
    scheme.ring.reduce(
        ciphertexts[0] + np.array(scheme.ring.moduli, np.uint64)[:, None]
        - ciphertexts[1]
    )
)

zero = np.zeros((scheme.ring.limbs, scheme.ring.dimension), np.uint64)
keys = [scheme.generate_keys()[1], Factor.of(zero, scheme.ring)]
keys += [Factor.of(c[i], scheme.ring) for c in ciphertexts for i in (0, 1)]
for key in keys:
    for polynomials in ciphertexts:
        rows = scheme.decrypt(key, polynomials.reshape(-1, 2, *zero.shape))
        # Every vector that was encrypted consists of 1s, 2s or 4s.
        values = unpack(rows, p)
        for guess in (1, 2, 4, 7, -1):
            near = np.mean(np.abs(values - guess) < 0.1)
            result["near"] = max(result["near"], near)

# With an authority of its own, and the server's part in it.
authority_party = Party(AUTHORITY, directory)
directory[AUTHORITY] = authority_party.identity.public
authority = KeyAuthority(authority_party, p.request, Trust(1, Decryptor.KEY_AUTHORITY))
adding = AggregationServer(server, material)
adding.open(0)
for message in data["uploads"]:
    adding.add(message)
for act in (
    lambda: authority.decrypt(adding.sum_message()),
    lambda: Encryptor(material),
    lambda: authority.decrypt(data["uploads"][0]),
    lambda: adding.read_release(data["uploads"][0]),
):
    try:
        act()
        result["roles"].append("done")
    except ProtocolError:
        result["roles"].append("refused")
"""


def test_a_process_with_all_that_the_server_has_cannot_decrypt(net, in_new_process):
    """Server: decrypts with its identity, all that it received and keys that it can
    make -> nothing."""
    net = type(net)(net.request)
    number = net.open()
    vectors = [np.full(VALUES, value) for value in (1, 2, 4)]
    if not net.request.scheme.exact:
        vectors = [vector * net.request.value_bound / 8 for vector in vectors]
    uploads = [net.upload(client, number, v) for client, v in enumerate(vectors)]
    (private,) = (
        value
        for value in reachable(net.server_party)
        if isinstance(value, X25519PrivateKey)
    )
    result = in_new_process(
        ATTACK,
        {
            "material": net.material.without_key().to_bytes(),
            "uploads": uploads,
            "identity": private.private_bytes_raw(),
            "directory": net.directory,
        },
    )
    assert result["read"] == UPLOADS
    # By chance: a decryption without the key is uniform over what fits the modulus.
    assert result["near"] < 0.15
    assert result["roles"] == ["refused"] * 4
    # With the key it is all there.
    for upload in uploads:
        net.server.add(upload)
    net.assert_sum(net.release(), vectors)


# Whether randomness repeats.


def assert_unrelated(net, uploads):
    """No two ciphertexts of the uploads share their random polynomials."""
    polynomials = np.concatenate([net.residues(upload) for upload in uploads])
    assert len(polynomials) == 2 * len(uploads) * net.parameters.rows
    for one, other in itertools.combinations(polynomials, 2):
        # Two uniform residues below 2^45 are equal once in 2^45.
        assert (one == other).sum() <= 1


def test_reused_randomness_would_be_found_out(net):
    upload = net.upload(0, 0, np.zeros(VALUES, int))
    with pytest.raises(AssertionError):
        assert_unrelated(net, [upload, net.upload(0, 0, np.zeros(VALUES, int)), upload])


def test_ciphertexts_of_one_message_differ_within_a_thread(net):
    zeros = np.zeros(VALUES, int)
    assert_unrelated(net, [net.upload(0, 0, zeros) for _ in range(3)])


def test_ciphertexts_of_one_message_differ_between_threads(net):
    zeros = np.zeros(VALUES, int)
    # Fresh threads each time: their generators are seeded on their first use.
    uploads = [
        upload
        for _ in range(3)
        for upload in Workers.start(2).map(lambda _: net.upload(0, 0, zeros), 2)
    ]
    assert_unrelated(net, uploads)


ENCRYPT = f"""
import numpy as np
from fedjax_private.encryption import Encryptor, Material
encryptor = Encryptor(Material.from_bytes(data))
(ciphertexts,) = encryptor.ciphertexts([0], [np.zeros({VALUES}, int)])
result = bytes(58) + bytes(ciphertexts) + bytes({TAG_BYTES})
"""


def test_ciphertexts_of_one_message_differ_between_processes(net, in_new_process):
    uploads = [in_new_process(ENCRYPT, net.material.to_bytes()) for _ in range(2)]
    assert_unrelated(net, [*uploads, net.upload(0, 0, np.zeros(VALUES, int))])


def test_no_seed_reaches_ciphertexts(net):
    uploads = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        uploads.append(net.upload(0, 0, np.zeros(VALUES, int)))
    assert_unrelated(net, uploads)


KEYS = """
from fedjax_private.encryption import AUTHORITY, KeyAuthority, Material, Party
from fedjax_private.trust import Decryptor, Trust
request = Material.from_bytes(data).parameters.request
trust = Trust(1, Decryptor.KEY_AUTHORITY)
result = KeyAuthority(Party(AUTHORITY, {}), request, trust).material.public_key
"""


def test_keys_differ(net, in_new_process):
    ours = [net.material.public_key, type(net)(net.request).material.public_key]
    theirs = [in_new_process(KEYS, net.material.to_bytes()) for _ in range(2)]
    polynomials = np.concatenate([net.ring.unpack(key) for key in ours + theirs])
    for one, other in itertools.combinations(polynomials, 2):
        assert (one == other).sum() <= 1


def test_uploads_say_nothing_about_the_vector(net):
    """Stranger: looks for the vector in an upload's statistics -> nothing; uploads are
    uniform."""
    # Uniform in either polynomial, zeros or not; half of all bits are set.
    for vector in (np.zeros(VALUES, int), net.vectors()[0]):
        upload = net.upload(0, 0, vector)
        residues = net.residues(upload)
        for limb, q in enumerate(net.ring.moduli):
            share = residues[:, limb] / float(q)
            assert abs(share.mean() - 0.5) < 0.03
            assert abs((share**2).mean() - 1 / 3) < 0.03
        bits = np.unpackbits(np.frombuffer(upload[-TAG_BYTES - net.payload :], "u1"))
        assert abs(bits.mean() - 0.5) < 0.01


def test_the_server_cannot_pass_for_the_authority(net):
    """Server: signs a release with its own identity -> refused."""
    number = net.open()
    net.add(number, net.vectors())
    impostor = Party(AUTHORITY, net.directory)
    impostor.identity = net.server_party.identity
    data = net.authority.decrypt(net.server.sum_message())
    with pytest.raises(ValueError, match="tag is wrong"):
        net.server.read_release(
            data[:-TAG_BYTES] + impostor.channel_to(SERVER).tag(data[:-32])
        )
