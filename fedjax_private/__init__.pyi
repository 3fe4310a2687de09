from . import (
    aggregation as aggregation,
)
from . import (
    algorithms as algorithms,
)
from . import (
    clients as clients,
)
from . import (
    datasets as datasets,
)
from . import (
    encryption as encryption,
)
from . import (
    models as models,
)
from . import (
    privacy as privacy,
)
from . import (
    simulation as simulation,
)
from . import (
    trust as trust,
)
from . import (
    typing as typing,
)
from .clients import use_all_cores as use_all_cores
