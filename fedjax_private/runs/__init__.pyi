from . import checkpoints as checkpoints
from . import environment as environment
from .arms import ARMS as ARMS
from .arms import Arm as Arm
from .batches import (
    Inputs as Inputs,
)
from .batches import (
    together as together,
)
from .batches import (
    train_all as train_all,
)
from .directory import RunDirectory as RunDirectory
from .directory import read_rows as read_rows
from .loading import (
    Loaded as Loaded,
)
from .loading import (
    Result as Result,
)
from .loading import (
    config as config,
)
from .loading import (
    load as load,
)
from .loading import (
    train as train,
)
from .preparation import Prepared as Prepared
from .preparation import prepare as prepare
from .rows import ROW_NAMES as ROW_NAMES
from .spec import Spec as Spec
from .training import Trained as Trained
from .training import train_together as train_together
