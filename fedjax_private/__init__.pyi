from . import (
    aggregation as aggregation,
    algorithms as algorithms,
    clients as clients,
    datasets as datasets,
    encryption as encryption,
    models as models,
    privacy as privacy,
    runs as runs,
    simulation as simulation,
    trust as trust,
    typing as typing,
)
from .clients import use_all_cores as use_all_cores

__version__: str
