from .arrays import from_arrays as from_arrays
from .clients import (
    ClientData as ClientData,
    client_data as client_data,
)
from .examples import (
    Dataset as Dataset,
    DatasetError as DatasetError,
    Examples as Examples,
    Normalization as Normalization,
    split_validation as split_validation,
    stratified as stratified,
)
from .partitions import (
    PARTITIONS as PARTITIONS,
    named_clients as named_clients,
    partition as partition,
)
from .partitions.partitioner import (
    Partitioner as Partitioner,
)
from .sources import (
    SOURCES as SOURCES,
    load as load,
)
from .sources.idx import read_idx as read_idx
from .sources.source import Source as Source
