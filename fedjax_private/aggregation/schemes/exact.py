"""BGV with one key: sums of whole numbers mod 2^b, without error."""

import functools

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.schemes import openfhe
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.encryption.parameters import Scheme

ENTRY = SchemeEntry(
    name="exact",
    summary="sums of whole numbers without error (BGV); one key",
    settings=SumSettings,
    decryptor=openfhe.key_holder,
    describe=functools.partial(openfhe.describe, Scheme.EXACT),
    make=functools.partial(openfhe.make, Scheme.EXACT),
    ignores=(
        "precision",
        "protect",
        "packing",
        "statistical_bits",
        "query_budget",
        "recovery_threshold",
    ),
    exact=True,
    encrypted_fraction=openfhe.encrypted_fraction,
    unavailable=openfhe.unavailable,
)
