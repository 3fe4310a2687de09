from .clients import (
    ClientData as ClientData,
)
from .clients import (
    client_data as client_data,
)
from .examples import (
    Dataset as Dataset,
)
from .examples import (
    DatasetError as DatasetError,
)
from .examples import (
    Examples as Examples,
)
from .examples import (
    Normalization as Normalization,
)
from .examples import (
    split_validation as split_validation,
)
from .examples import (
    stratified as stratified,
)
from .partitions import (
    PARTITIONS as PARTITIONS,
)
from .partitions import (
    partition as partition,
)
from .partitions.partitioner import (
    Partitioner as Partitioner,
)
from .sources import (
    SOURCES as SOURCES,
)
from .sources import (
    load as load,
)
from .sources import (
    source_of as source_of,
)
from .sources.idx import read_idx as read_idx
from .sources.source import Source as Source
