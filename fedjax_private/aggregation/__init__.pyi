from .encrypted import EncryptedAggregation as EncryptedAggregation
from .entry import (
    SchemeEntry as SchemeEntry,
    SumTask as SumTask,
    fill_range as fill_range,
)
from .masked import MaskedAggregation as MaskedAggregation
from .plain import PlainAggregation as PlainAggregation
from .processes import ProcessAggregation as ProcessAggregation
from .reference import OpenFHEAggregation as OpenFHEAggregation
from .registry import (
    SCHEMES as SCHEMES,
    describe as describe,
    make as make,
    trust_of as trust_of,
)
from .selective import (
    SelectiveAggregation as SelectiveAggregation,
    most_sensitive as most_sensitive,
    sensitivity as sensitivity,
)
from .settings import SumSettings as SumSettings
from .sums import FEW_BITS as FEW_BITS, RangeWarning as RangeWarning
from .topologies import TOPOLOGIES as TOPOLOGIES
from .types import (
    Aggregation as Aggregation,
    Codec as Codec,
    Session as Session,
    SessionReport as SessionReport,
)
