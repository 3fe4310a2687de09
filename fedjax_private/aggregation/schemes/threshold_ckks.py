"""CKKS with a key in shares: sums of reals, with a small error."""

from fedjax_private.aggregation.schemes.openfhe import encrypted_entry
from fedjax_private.encryption.parameters import Scheme

ENTRY = encrypted_entry(
    Scheme.THRESHOLD_CKKS,
    "sums of reals with a small error (CKKS); a key in shares",
    ignores=("quantization_bits", "protect", "packing", "key_holder"),
)
