"""Encrypted sums in words."""

from fedjax_private.encryption.parameters import Parameters
from fedjax_private.trust import Decryptor, Trust


def describe_sums(
    parameters: Parameters, trust: Trust, quorum: int, topology: str
) -> str:
    """Returns sentences for reports: parameters, what is released, who decrypts.

    Args:
        parameters: of the key.
        trust: who decrypts, and the fewest uploads that a released sum holds.
        quorum: holders that can stand in for others; unused without shares of a key.
        topology: how uploads travel.
    """
    request, scheme = parameters.request, parameters.request.scheme
    ring = (
        f"ring dimension {parameters.ring_dimension}, a modulus of "
        f"{parameters.modulus_bits} bits, 128-bit security, "
        f"{parameters.bytes_per_value:.2f} bytes a value"
    )
    if scheme.exact:
        what = (
            f"{'BFV' if scheme.threshold else 'BGV'} (OpenFHE): {ring}; exact sums mod "
            f"2^{request.bits} of up to {request.uploads} uploads, {parameters.lanes} "
            f"lanes a slot, on a grid that spans sums within {request.sum_bound:g}."
        )
    else:
        packing = "complex" if request.complex_packing else "real"
        what = (
            f"CKKS (OpenFHE, {packing} packing): {ring}; sums of up to "
            f"{request.uploads} uploads with entries within {request.sum_bound:g} and "
            f"errors of {parameters.error_std(request.uploads):.1g} (one sigma)."
        )
    sums = parameters.sums_per_key
    if sums is not None:
        what += (
            " Gaussian noise floods what decryption would tell of the key, to within "
            f"2^-{request.settings.statistical_bits} in KL divergence over {sums} sums "
            "a key; then a new key is made."
        )
    elif scheme.exact:
        what += " What is released is exact, and tells nothing of the key."
    else:
        what += (
            " UNPROTECTED: released sums tell of the key; they may be shown only to "
            "those who hold it."
        )
    if scheme.threshold:
        who = (
            f"All {request.holders} holders of key shares together decrypt one sum of "
            f"at least {trust.uploads} uploads a round; {quorum} of them can stand in "
            "for others."
        )
    elif trust.decryptor is Decryptor.EVERY_CLIENT:
        who = (
            "BASELINE: every client holds the one secret key, so that one of them and "
            "the server together read every upload; a sum holds at least "
            f"{trust.uploads}."
        )
    else:
        who = (
            "A key authority, assumed not to collude, decrypts one sum of at least "
            f"{trust.uploads} uploads a round."
        )
    return f"{what} {who} Uploads travel as a {topology}."
