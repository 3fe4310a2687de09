"""BFV with a key in shares: sums of whole numbers mod 2^b, without error."""

import functools

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.schemes import openfhe
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.encryption.parameters import Scheme

ENTRY = SchemeEntry(
    name="threshold_exact",
    summary="sums of whole numbers without error (BFV); a key in shares",
    settings=SumSettings,
    decryptor=openfhe.share_holders,
    describe=functools.partial(openfhe.describe, Scheme.THRESHOLD_EXACT),
    make=functools.partial(openfhe.make, Scheme.THRESHOLD_EXACT),
    ignores=("precision", "protect", "packing", "key_holder"),
    exact=True,
    quorum=openfhe.quorum,
    encrypted_fraction=openfhe.encrypted_fraction,
    unavailable=openfhe.unavailable,
)
