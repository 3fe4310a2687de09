from .encrypted import (
    EncryptedAggregation as EncryptedAggregation,
)
from .encrypted import (
    describe as describe,
)
from .plain import PlainAggregation as PlainAggregation
from .processes import ProcessAggregation as ProcessAggregation
from .registry import (
    SCHEMES as SCHEMES,
)
from .registry import (
    Options as Options,
)
from .registry import (
    make as make,
)
from .registry import (
    request_for as request_for,
)
from .selective import (
    SelectiveAggregation as SelectiveAggregation,
)
from .selective import (
    most_sensitive as most_sensitive,
)
from .selective import (
    sensitivity as sensitivity,
)
from .topologies import TOPOLOGIES as TOPOLOGIES
from .types import (
    Aggregation as Aggregation,
)
from .types import (
    Codec as Codec,
)
from .types import (
    Session as Session,
)
from .types import (
    SessionReport as SessionReport,
)
