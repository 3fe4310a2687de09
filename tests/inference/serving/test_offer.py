import dataclasses

import pytest

from fedjax_private.inference.serving.offer import Offer
from tests.inference.serving.answers import tiny_offer

pytestmark = pytest.mark.needs_openfhe


def test_an_offer_is_read_as_it_was_written():
    offer = tiny_offer()
    assert Offer.from_bytes(offer.to_bytes()) == offer
    features = dataclasses.replace(offer, classes=(), split="hidden")
    assert Offer.from_bytes(features.to_bytes()) == features
