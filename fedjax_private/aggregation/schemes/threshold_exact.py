"""BFV with a key in shares: sums of whole numbers mod 2^b, without error."""

from fedjax_private.aggregation.schemes.openfhe import encrypted_entry
from fedjax_private.encryption.parameters import Scheme

ENTRY = encrypted_entry(
    Scheme.THRESHOLD_EXACT,
    "sums of whole numbers without error (BFV); a key in shares",
    ignores=("precision", "protect", "packing", "key_holder"),
)
