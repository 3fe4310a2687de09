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
        value_bound: the largest absolute entry of an upload, in its own units (weights
            included). Codecs cut what is beyond, and reports count it. Where clients
            share noise, it bounds what they send before noise. None: derived from the
            noise where clients share it, otherwise 2, or `sum_bound` if that is less.
        sum_bound: the largest absolute entry of a sum, noise included. A sum beyond may
            come out wrong, which reports count. None: derived from the noise where
            clients share it, otherwise what the largest uploads add up to; in CKKS at
            most what the smallest ciphertext holds within `precision`.
        quantization_bits: exact: b, bits of an entry of an upload; of a sum where
            clients share noise, which is then taken mod 2^b. None: derived from the
            noise where clients share it, otherwise 16.

    Raises:
        ValueError: a value outside its range, or a sum_bound below value_bound.
    """

    value_bound: float | None = choices.setting(
        None,
        "largest absolute entry of an upload; larger ones are cut (default: derived)",
        _within_float64,
    )
    sum_bound: float | None = choices.setting(
        None, "largest absolute entry of a sum (default: derived)", _within_float64
    )
    quantization_bits: int | None = choices.setting(
        None,
        "bits of an entry of an upload, or of a noisy sum (default: derived)",
        choices.between(2, 24),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least, most = self.value_bound, self.sum_bound
        if least is not None and most is not None and most < least:
            raise ValueError(
                "sum_bound must be at least value_bound, as a sum may hold a single "
                f"entry that is not 0, got {most:g} and {least:g}."
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
            Exact schemes with one key flood nothing, and refuse such sums.
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
        """Returns the settings of this class alone, with a value for all but sum_bound.

        Two settings that give the same ciphertexts are then equal.
        """
        names = [field.name for field in dataclasses.fields(CipherSettings)]
        given = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        settings = {**_WHERE_NOT_DERIVED, **given}
        if self.value_bound is None and self.sum_bound is not None:
            settings["value_bound"] = min(settings["value_bound"], self.sum_bound)
        return CipherSettings(**settings)


DEFAULTS = CipherSettings()
