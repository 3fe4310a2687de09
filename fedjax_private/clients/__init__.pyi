from .entries import CLIENTS as CLIENTS, ClientEntry as ClientEntry
from .for_each import (
    BACKENDS as BACKENDS,
    ClientError as ClientError,
    for_each_client as for_each_client,
    use_all_cores as use_all_cores,
)
from .local_dp_sgd import DpSgdConfig as DpSgdConfig, dp_sgd as dp_sgd
from .local_sgd import SgdConfig as SgdConfig, sgd as sgd
from .training import Trainer as Trainer, TrainState as TrainState
from .updates import (
    ClientOutput as ClientOutput,
    ClientUpdate as ClientUpdate,
    by_examples as by_examples,
    equally as equally,
    federated as federated,
    kept as kept,
    sharing_noise as sharing_noise,
)
