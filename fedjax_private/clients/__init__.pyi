from .entries import CLIENTS as CLIENTS
from .entries import ClientEntry as ClientEntry
from .for_each import (
    BACKENDS as BACKENDS,
)
from .for_each import (
    ClientError as ClientError,
)
from .for_each import (
    client_mesh as client_mesh,
)
from .for_each import (
    default_backend as default_backend,
)
from .for_each import (
    for_each_client as for_each_client,
)
from .for_each import (
    use_all_cores as use_all_cores,
)
from .local_dp_sgd import DpSgdConfig as DpSgdConfig
from .local_dp_sgd import dp_sgd as dp_sgd
from .local_sgd import Direction as Direction
from .local_sgd import SgdConfig as SgdConfig
from .local_sgd import sgd as sgd
from .training import Trainer as Trainer
from .training import TrainState as TrainState
from .types import ClientOutput as ClientOutput
from .types import ClientUpdate as ClientUpdate
from .updates import (
    alone as alone,
)
from .updates import (
    by_examples as by_examples,
)
from .updates import (
    equally as equally,
)
from .updates import (
    federated as federated,
)
from .updates import (
    kept as kept,
)
from .updates import (
    sharing_noise as sharing_noise,
)
