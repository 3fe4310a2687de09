"""CKKS with one key: sums of reals, with a small error."""

import functools

from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.schemes import openfhe
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.encryption.parameters import Scheme


def _protects(settings: SumSettings) -> bool:
    return settings.protect


ENTRY = SchemeEntry(
    name="ckks",
    summary="sums of reals with a small error (CKKS); one key",
    settings=SumSettings,
    decryptor=openfhe.key_holder,
    describe=functools.partial(openfhe.describe, Scheme.CKKS),
    make=functools.partial(openfhe.make, Scheme.CKKS),
    ignores=("quantization_bits", "recovery_threshold"),
    protects=_protects,
    encrypted_fraction=openfhe.encrypted_fraction,
    unavailable=openfhe.unavailable,
)
