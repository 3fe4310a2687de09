import math

import pytest

from fedjax_private.inference import plan
from fedjax_private.inference.planning.rings import (
    MODULUS_BITS,
    RingChoice,
    ring_choices,
    ring_of,
)
from tests.inference.networks import network


@pytest.mark.parametrize(
    "numbers",
    [(4096, 30, 30, 3), (8192, 30, 30, 8), (8192, 32, 30, 3), (8192, 30, 30, 1)],
)
def test_rings_that_are_not_known_to_be_secure(numbers):
    with pytest.raises(ValueError, match="no secure ring"):
        RingChoice(*numbers)


@pytest.mark.needs_openfhe
def test_every_modulus_is_within_the_published_table():
    for dimension, most in {8192: 214, 16384: 430}.items():
        assert MODULUS_BITS[dimension] == most
    made = plan(network(), packing="batch", flooding_bits=0).public
    bits = math.log2(math.prod(made.ring.moduli))
    assert bits < MODULUS_BITS[made.choice.dimension] + 0.1
    assert ring_of(made.choice) == made.ring


@pytest.mark.parametrize("dimension", MODULUS_BITS)
def test_choices_have_few_primes_first_and_fill_the_modulus(dimension):
    choices = ring_choices(dimension)
    counts = [choice.limbs for choice in choices]
    assert counts == sorted(counts)
    largest = max(choice.bits_of(choice.limbs) for choice in choices)
    assert MODULUS_BITS[dimension] - 10 < largest <= MODULUS_BITS[dimension]
