from . import checkpoints as checkpoints, environment as environment
from .arms import ARMS as ARMS, Arm as Arm
from .batches import (
    Inputs as Inputs,
    check_names as check_names,
    together as together,
    train_all as train_all,
)
from .directory import RunDirectory as RunDirectory, read_rows as read_rows
from .loading import Loaded as Loaded, load as load
from .preparation import (
    Prepared as Prepared,
    prepare as prepare,
    with_clients as with_clients,
)
from .spec import DEFAULT_CLIENTS as DEFAULT_CLIENTS, Spec as Spec
from .training import (
    Diverged as Diverged,
    Result as Result,
    config as config,
    train as train,
    train_together as train_together,
)
from .warnings import (
    after_training as after_training,
    before_training as before_training,
)
