"""What a key authority that departs from the protocol gets, and what it can do."""

import numpy as np
import pytest

from fedjax_private.encryption.math.packing import unpack
from fedjax_private.encryption.messages.wire import AUTHORITY, SERVER, Kind, write
from tests.attacks.runs import UPLOADS, run_of

pytestmark = pytest.mark.needs_openfhe

ALL = tuple(range(UPLOADS))


def uploaded(name):
    run = run_of(name, values=10)
    vectors = run.vectors()
    return run, vectors, run.begin(7, vectors)


def opened(run, firsts, seconds):
    """What the secret key makes of a ciphertext."""
    key = run.decryptors[AUTHORITY]._secret_key
    rows = run.scheme.decrypt(key, np.stack([firsts, seconds], axis=1))
    return unpack(rows, run.parameters)


@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_an_authority_gets_the_sum_alone_of_what_the_server_sends(name):
    """Authority: decrypts all that the server sends it, the second polynomials of each
    upload and the sum of the first ones -> the sum, and no upload."""
    run, vectors, _ = uploaded(name)
    total = opened(run, run.firsts(*ALL), run.seconds(*ALL))
    np.testing.assert_allclose(total, vectors.sum(axis=0), rtol=0, atol=1e-3)
    for client, part in enumerate(run.parts(*ALL)):
        for firsts in (run.firsts(*ALL), np.zeros_like(part)):
            wrong = np.abs(opened(run, firsts, part) - vectors[client])
            assert np.median(wrong) > (100 if name == "exact" else 0.1)


@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_an_authority_reads_uploads_that_it_gets_hold_of(name):
    """Authority: decrypts an upload that it overheard -> that upload; so it must not
    share a line with clients."""
    run, vectors, _ = uploaded(name)
    read = opened(run, run.firsts(2), run.seconds(2))
    np.testing.assert_allclose(read, vectors[2], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["ckks", "exact"])
def test_an_authority_releases_what_it_likes(name):
    """Authority: releases other numbers than the sum -> they are taken for the sum."""
    run, _, _ = uploaded(name)
    key, request = run.aggregation._key, run.parameters.request
    key.server.sum_message()
    invented = np.arange(10).astype(request.released)
    data = write(
        run.party(AUTHORITY),
        SERVER,
        Kind.RELEASED,
        7,
        invented.tobytes(),
        key_id=key.encryptor.material.key_id,
        numbers=ALL,
    )
    np.testing.assert_array_equal(key.server.read_release(data), invented)
