"""BGV with one key: sums of whole numbers mod 2^b, without error."""

from fedjax_private.aggregation.schemes.openfhe import encrypted_entry
from fedjax_private.encryption.parameters import Scheme

ENTRY = encrypted_entry(
    Scheme.EXACT,
    "sums of whole numbers without error (BGV); one key",
    ignores=(
        "precision",
        "protect",
        "packing",
        "statistical_bits",
        "query_budget",
        "flooding",
        "recovery_threshold",
        "holder_drop_out",
    ),
)
