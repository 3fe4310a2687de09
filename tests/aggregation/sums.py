"""Sums as a round takes them, for the tests of all schemes."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_private.aggregation import SCHEMES, SumSettings, make, trust_of

# Schemes of ciphertexts.
ENCRYPTED = [entry.name for entry in SCHEMES.entries() if entry.settings is SumSettings]


def made(name, uploads=3, size=10, settings=None, **arguments):
    """A scheme, set up for sums of at least so many uploads."""
    scheme = SCHEMES.choose(name, settings)
    trust = trust_of(scheme, uploads=uploads)
    return make(scheme, vector_size=size, trust=trust, **arguments)


def encoded(aggregation, rows, seed=0):
    """Clients' vectors as the client phase encodes them."""
    keys = jax.random.split(jax.random.key(seed), len(rows))
    encode = jax.jit(jax.vmap(aggregation.codec.encode))
    return np.asarray(encode(keys, jnp.asarray(rows, jnp.float32)))


def released(aggregation, slots, ids=None, round_number=0):
    """The sum of one round, and its report."""
    session = aggregation.open(round_number)
    session.add(np.arange(len(slots)) if ids is None else ids, slots)
    return session.release()


def decoded(aggregation, total):
    """A released sum as the server phase decodes it."""
    return np.asarray(aggregation.codec.decode(jnp.asarray(total)))
