"""Pairwise masks: sums of whole numbers without ciphertexts and without OpenFHE."""

import dataclasses

from fedjax_private import choices
from fedjax_private.aggregation.entry import SchemeEntry, SumTask
from fedjax_private.aggregation.masked import (
    MaskedAggregation,
    description,
    masked_sum,
)
from fedjax_private.aggregation.settings import SERVERS
from fedjax_private.encryption.masking.rosters import MaskedSum
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.attendance import DropOut
from fedjax_private.encryption.settings import CipherSettings, RangeSettings
from fedjax_private.trust import Decryptor


@dataclasses.dataclass(frozen=True)
class MaskSettings(RangeSettings):
    """How sums are masked. All parties share one process.

    Attributes:
        server: the server that uploads are secret from. `malicious`: one that may
            depart from the protocol, so clients agree on the uploads of a sum before
            they open it. `semi_honest`: one that follows it; many clients then mask
            with some others only.
        recovery_threshold: T, how many clients open a sum of the fewest uploads; see
            `encryption.MaskedSum`.
        holder_drop_out: of a simulation: the probability that a client vanishes after
            it has uploaded, before it consents, and again before it opens masks.

    Raises:
        ValueError: a value outside its range.
    """

    server: str = choices.setting(
        "malicious",
        f"server that uploads are secret from: {' or '.join(SERVERS)}",
        choices.one_of(*SERVERS),
    )
    recovery_threshold: int | None = choices.setting(
        None,
        "clients that open a sum together (default: just over 2/3, or 1/2)",
        choices.at_least(2),
    )
    holder_drop_out: float = choices.setting(
        0.0,
        "probability that a client vanishes after its upload, in [0, 1)",
        choices.below_one,
    )

    @property
    def malicious(self) -> bool:
        """Whether the server may depart from the protocol."""
        return self.server == "malicious"


def request_for(settings: MaskSettings, task: SumTask) -> SumRequest:
    """Returns the sums of whole numbers that are masked.

    Raises:
        ValueError: if the settings do not fit the task.
    """
    if task.encrypted is not None:
        raise ValueError("masks hide every entry: leave out encrypted.")
    names = [field.name for field in dataclasses.fields(RangeSettings)]
    ranges = {name: getattr(settings, name) for name in names}
    return SumRequest(
        Scheme.EXACT,
        values=task.vector_size,
        uploads=task.most_uploads,
        settings=CipherSettings(**ranges),
        residues=task.residues,
    )


def _facts(settings: MaskSettings, task: SumTask) -> MaskedSum:
    request = request_for(settings, task)
    threshold, malicious = settings.recovery_threshold, settings.malicious
    return masked_sum(request, task.trust, threshold, malicious)


def _quorum(settings: MaskSettings, uploads: int) -> int:
    threshold, malicious = settings.recovery_threshold, settings.malicious
    return MaskedSum(1, 2, uploads, uploads, threshold, malicious).quorum


def _describe(settings: MaskSettings, task: SumTask) -> str:
    request, facts = request_for(settings, task), _facts(settings, task)
    return description(request, facts, DropOut(settings.holder_drop_out, task.seed))


def _make(settings: MaskSettings, task: SumTask) -> MaskedAggregation:
    return MaskedAggregation(
        request_for(settings, task),
        task.trust,
        recovery_threshold=settings.recovery_threshold,
        malicious=settings.malicious,
        drop_out=DropOut(settings.holder_drop_out, task.seed),
    )


ENTRY = SchemeEntry(
    name="masks",
    summary="sums of whole numbers under pairwise masks; no ciphertexts, no OpenFHE",
    settings=MaskSettings,
    decryptor=lambda settings: Decryptor.UPLOADERS,
    describe=_describe,
    make=_make,
    exact=True,
    quorum=_quorum,
)
