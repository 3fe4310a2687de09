"""CKKS with one key: sums of reals, with a small error."""

from fedjax_private.aggregation.schemes.openfhe import encrypted_entry
from fedjax_private.encryption.parameters import Scheme

ENTRY = encrypted_entry(
    Scheme.CKKS,
    "sums of reals with a small error (CKKS); one key",
    ignores=("quantization_bits", "recovery_threshold", "holder_drop_out"),
)
