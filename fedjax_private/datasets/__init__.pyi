from .clients import (
    ClientData as ClientData,
)
from .clients import (
    client_data as client_data,
)
from .clients import (
    next_power_of_two as next_power_of_two,
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
    Dirichlet as Dirichlet,
)
from .partitions import (
    Iid as Iid,
)
from .partitions import (
    Scheme as Scheme,
)
from .partitions import (
    Shards as Shards,
)
from .partitions import (
    parse_scheme as parse_scheme,
)
from .partitions import (
    partition as partition,
)
from .sources.idx import read_idx as read_idx
from .sources.tfds import load as load
