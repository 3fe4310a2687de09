"""Plain sums: nothing is encrypted."""

from fedjax_private import choices
from fedjax_private.aggregation.entry import SchemeEntry, SumTask
from fedjax_private.aggregation.plain import PlainAggregation
from fedjax_private.trust import Decryptor


def _decryptor(settings: choices.Settings) -> Decryptor:
    return Decryptor.NOBODY_NEEDED


def _describe(settings: choices.Settings, task: SumTask) -> None:
    return None


def _make(settings: choices.Settings, task: SumTask) -> PlainAggregation:
    return PlainAggregation(task.vector_size, task.trust)


ENTRY = SchemeEntry(
    name="none",
    summary="plain sums; the server reads every upload",
    settings=choices.Settings,
    decryptor=_decryptor,
    describe=_describe,
    make=_make,
)
