"""Published algorithms, a file each: its citation, its functions and its entry.

Of the other files, `algorithm` holds the type of all algorithms, `prices` what privacy
costs a run, `fedopt` the server optimisers, and `entry` the registry of algorithms;
each imports only those before it, and the algorithms import these four. `fedavg` and
`distributed_dp_sgd` serve other algorithms.

The package imports its files at once, so that a function is found here even where its
file has the same name.
"""

from fedjax_private.algorithms.algorithm import (
    Algorithm,
    client_key,
    client_phase,
    round_key,
)
from fedjax_private.algorithms.distributed_dp_sgd import distributed_dp_sgd
from fedjax_private.algorithms.dopamine import dopamine
from fedjax_private.algorithms.dp_fedavg import ClientLevelPlan, dp_fedavg
from fedjax_private.algorithms.entry import ALGORITHMS, AlgorithmEntry, Task, Training
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.algorithms.fedopt import (
    SERVER_OPTIMIZERS,
    ServerOptimizer,
    server_optimizer,
)
from fedjax_private.algorithms.fedprox import fedprox
from fedjax_private.algorithms.fedsgd import fedsgd
from fedjax_private.algorithms.local import alone
from fedjax_private.algorithms.nbafl import NbaflSettings, nbafl
from fedjax_private.algorithms.prices import (
    Privacy,
    Terms,
    Unit,
    local_price,
    shared_price,
)
from fedjax_private.algorithms.scaffold import scaffold
from fedjax_private.algorithms.truex import truex, truex_plan

__all__ = [
    "ALGORITHMS",
    "SERVER_OPTIMIZERS",
    "Algorithm",
    "AlgorithmEntry",
    "ClientLevelPlan",
    "NbaflSettings",
    "Privacy",
    "ServerOptimizer",
    "Task",
    "Terms",
    "Training",
    "Unit",
    "alone",
    "client_key",
    "client_phase",
    "distributed_dp_sgd",
    "dopamine",
    "dp_fedavg",
    "fedavg",
    "fedprox",
    "fedsgd",
    "local_price",
    "nbafl",
    "round_key",
    "scaffold",
    "server_optimizer",
    "shared_price",
    "truex",
    "truex_plan",
]
