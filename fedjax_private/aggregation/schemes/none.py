"""Plain sums: nothing is encrypted."""

from fedjax_private import choices
from fedjax_private.aggregation.entry import SchemeEntry
from fedjax_private.aggregation.plain import PlainAggregation
from fedjax_private.trust import Decryptor

ENTRY = SchemeEntry(
    name="none",
    summary="plain sums; the server reads every upload",
    settings=choices.Settings,
    decryptor=lambda settings: Decryptor.NOBODY_NEEDED,
    describe=lambda settings, task: None,
    make=lambda settings, task: PlainAggregation(task.vector_size, task.trust),
)
