"""CKKS with a key in shares: sums of reals, with a small error."""

import functools

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.schemes import openfhe
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.encryption.parameters import Scheme

ENTRY = SchemeEntry(
    name="threshold_ckks",
    summary="sums of reals with a small error (CKKS); a key in shares",
    settings=SumSettings,
    decryptor=openfhe.share_holders,
    describe=functools.partial(openfhe.describe, Scheme.THRESHOLD_CKKS),
    make=functools.partial(openfhe.make, Scheme.THRESHOLD_CKKS),
    ignores=("quantization_bits", "protect", "packing", "key_holder"),
    quorum=openfhe.quorum,
    encrypted_fraction=openfhe.encrypted_fraction,
    unavailable=openfhe.unavailable,
)
