import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation import make
from fedjax_private.encryption import RefusedError
from fedjax_private.trust import Decryptor, Trust

TRUST = Trust(3, Decryptor.NOBODY_NEEDED)


def test_sum_and_report():
    aggregation = make("none", vector_size=5, trust=TRUST)
    rows = np.arange(15, dtype=np.float32).reshape(3, 5)
    session = aggregation.open(0)
    session.add(np.array([4, 2]), rows[:2])
    session.add(np.array([9]), rows[2:])
    total, report = session.release()
    np.testing.assert_array_equal(total, [15, 18, 21, 24, 27])
    assert total.dtype == np.float64
    assert report.uploads == 3
    assert report.upload_bytes_per_client == report.download_bytes_per_client == 20
    assert report.max_error == 0
    assert report.seconds_encrypt == report.seconds_decrypt == 0
    assert report.seconds_add > 0


def test_takes_jax_arrays_and_sums_in_float64():
    trust = Trust(2, Decryptor.NOBODY_NEEDED)
    session = make("none", vector_size=1, trust=trust).open(0)
    session.add(np.array([0, 1]), jnp.array([[2.0**24], [1.0]], jnp.float32))
    assert session.release()[0] == 2**24 + 1  # lost in float32


def test_codec_is_the_identity_under_jit_and_vmap():
    codec = make("none", vector_size=4, trust=TRUST).codec
    keys = jax.random.split(jax.random.key(0), 2)
    rows = jnp.arange(8, dtype=jnp.float32).reshape(2, 4)
    slots = jax.jit(jax.vmap(codec.encode))(keys, rows)
    assert slots.dtype == jnp.float32
    np.testing.assert_array_equal(slots, rows)
    vector = jax.jit(codec.decode)(np.arange(4, dtype=np.float64))
    assert vector.dtype == jnp.float32
    np.testing.assert_array_equal(vector, np.arange(4))


def test_too_few_uploads_are_not_released():
    session = make("none", vector_size=2, trust=TRUST).open(0)
    session.add(np.array([0, 1]), np.zeros((2, 2)))
    with pytest.raises(RefusedError, match=r"2 uploads .* at least 3"):
        session.release()


def test_duplicates_and_shapes_are_refused():
    session = make("none", vector_size=2, trust=TRUST).open(0)
    session.add(np.array([0]), np.ones((1, 2)))
    for clients in ([1, 0], [1, 1]):
        with pytest.raises(RefusedError, match="twice"):
            session.add(np.array(clients), np.ones((2, 2)))
    for shape in ((1, 2), (2, 3), (2,)):
        with pytest.raises(ValueError, match="declared"):
            session.add(np.array([1, 2]), np.ones(shape))
    session.add(np.array([1, 2]), np.ones((2, 2)))
    np.testing.assert_array_equal(session.release()[0], [3, 3])


def test_released_once():
    session = make("none", vector_size=2, trust=TRUST).open(7)
    session.add(np.arange(3), np.zeros((3, 2)))
    session.release()
    with pytest.raises(RuntimeError, match="round 7"):
        session.release()
    with pytest.raises(RuntimeError, match="round 7"):
        session.add(np.array([5]), np.zeros((1, 2)))


def test_description_says_who_reads():
    text = make("none", vector_size=2, trust=TRUST).description
    assert "nothing is encrypted" in text
    assert "3 uploads" in text
