import os

import numpy as np
import pytest

from fedjax_private.encryption.errors import WireError
from fedjax_private.encryption.masking.packing import pack, packed_size, unpack, word

WIDTHS = (2, 7, 8, 9, 15, 16, 17, 21, 24, 29, 32, 33, 44, 63, 64)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("values", [1, 7, 8, 9, 100])
def test_vectors_take_their_bits_and_come_back(bits, values):
    kind = word(bits)
    vector = np.frombuffer(os.urandom(kind.itemsize * values), kind)
    data = pack(vector, bits)
    assert len(data) == packed_size(values, bits)
    assert 0 <= len(data) - bits * values / 8 < 7
    reduced = vector & kind.type((1 << bits) - 1)
    found = unpack(data, values, bits)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, reduced)


def test_bits_by_hand():
    vector = np.array([0x1FF, 0x001, 0x100], np.uint16)
    # Low bytes, then the ninth bits of values 0 and 2.
    assert pack(vector, 9) == bytes([0xFF, 0x01, 0x00, 0b101])


@pytest.mark.parametrize(
    ("data", "words"),
    [(bytes(3), "3 bytes"), (bytes(5), "5 bytes"), (b"\0\0\0\x08", "padding")],
)
def test_other_bytes_are_refused(data, words):
    np.testing.assert_array_equal(unpack(bytes(4), 3, 9), 0)
    with pytest.raises(WireError, match=words):
        unpack(data, 3, 9)
