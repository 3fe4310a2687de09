"""Settings of ciphertexts: range, precision, bits, packing, decryption budget."""

import dataclasses

from fedjax_private import choices

_WHERE_NOT_DERIVED = {"value_bound": 2.0, "quantization_bits": 16}

PACKINGS = ("real", "complex")
FLOODINGS = ("average", "worst_case")


def _within_float64(value: float) -> str | None:
    # Far within, so that no scale over- or underflows.
    if 1e-30 <= value <= 1e30:
        return None
    return "must be positive and finite, from 1e-30 to 1e30"


def _within_32_bits(value: int) -> str | None:
    if 1 <= value < 2**32:
        return None
    return f"must lie between 1 and {2**32 - 1}"


@dataclasses.dataclass(frozen=True)
class RangeSettings(choices.Settings):
    """Which values are summed, and which whole numbers stand for them.

    Attributes:
        value_bound: the largest absolute value of an entry of an upload and of a sum,
            in the units of the upload (weights and noise included). None: derived from
            the noise where clients share it, otherwise 2.
        quantization_bits: exact: b; entries are integers mod 2^b. None: derived from
            the noise where clients share it, otherwise 16.
    """

    value_bound: float | None = choices.setting(
        None,
        "largest absolute entry of an upload and of a sum (default: derived)",
        _within_float64,
    )
    quantization_bits: int | None = choices.setting(
        None,
        "sums are taken mod 2^bits (default: derived)",
        choices.between(2, 24),
    )


@dataclasses.dataclass(frozen=True)
class CipherSettings(RangeSettings):
    """How values become ciphertexts, and what hides the noise of a decryption.

    All fields are part of the public facts about a key: see `messages.material`.

    Attributes:
        precision: CKKS: the largest acceptable standard deviation of the error of an
            entry of a sum, in the values' units.
        protect: CKKS with one key: whether released sums are made safe to show.
        packing: CKKS: `complex` puts two values into a slot, `real` one.
        statistical_bits: s; see `Parameters.flooding_std`.
        query_budget: how many ciphertexts one key may decrypt; at least one sum's.
        flooding: the error of a sum by which noise and noise budget are sized. The
            `average` is that of independent encryptions. An upload that is sent again
            by other clients, or one whose sender chose its random numbers, makes a
            larger one; `worst_case` covers these, at the cost of precision or bytes.
    """

    precision: float = choices.setting(
        1e-4, "largest acceptable error (one sigma)", _within_float64
    )
    protect: bool = choices.setting(True, "make released sums safe to show")
    packing: str = choices.setting(
        "complex",
        "how values fill slots: complex (two a slot) or real",
        choices.one_of(*PACKINGS),
    )
    statistical_bits: int = choices.setting(
        30,
        "statistical bits of the noise that hides the error of decryption",
        choices.between(1, 128),
        needs=("protect", True),
    )
    query_budget: int = choices.setting(
        1600,
        "ciphertexts that one key decrypts",
        _within_32_bits,
        needs=("protect", True),
    )
    flooding: str = choices.setting(
        "average",
        "error that noise is sized by: average, or worst_case, which covers uploads "
        "that are sent twice or made of chosen random numbers",
        choices.one_of(*FLOODINGS),
        needs=("protect", True),
    )

    def complete(self) -> "CipherSettings":
        """Returns the settings of this class alone, with a value for each.

        Two settings that give the same ciphertexts are then equal.
        """
        names = [field.name for field in dataclasses.fields(CipherSettings)]
        given = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        return CipherSettings(**{**_WHERE_NOT_DERIVED, **given})


DEFAULTS = CipherSettings()
