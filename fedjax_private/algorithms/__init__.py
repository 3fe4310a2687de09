"""Published algorithms, a file each: its citation, its functions and its entry.

Of the other files, `algorithm` holds the type of all algorithms, `prices` what privacy
costs a run, `server_optimizers` a registry, and `entry` the registry of algorithms;
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
from fedjax_private.algorithms.dp_fedavg import (
    ClientLevelPlan,
    dp_fedavg,
    participants,
)
from fedjax_private.algorithms.entry import ALGORITHMS, AlgorithmEntry, Task, Training
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.algorithms.fedopt import server_optimizer
from fedjax_private.algorithms.fedprox import fedprox
from fedjax_private.algorithms.fedsgd import fedsgd
from fedjax_private.algorithms.local import alone
from fedjax_private.algorithms.nbafl import (
    NbaflClaim,
    NbaflSettings,
    claims,
    nbafl,
)
from fedjax_private.algorithms.prices import (
    Privacy,
    Terms,
    Unit,
    local_price,
    shared_price,
)
from fedjax_private.algorithms.scaffold import scaffold
from fedjax_private.algorithms.server_optimizers import (
    SERVER_OPTIMIZERS,
    ServerOptimizer,
)
from fedjax_private.algorithms.truex import (
    TruexEpsilons,
    truex,
    truex_epsilons,
    truex_plan,
    truex_trust,
)

__all__ = [
    "ALGORITHMS",
    "SERVER_OPTIMIZERS",
    "Algorithm",
    "AlgorithmEntry",
    "ClientLevelPlan",
    "NbaflClaim",
    "NbaflSettings",
    "Privacy",
    "ServerOptimizer",
    "Task",
    "Terms",
    "Training",
    "TruexEpsilons",
    "Unit",
    "alone",
    "claims",
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
    "participants",
    "round_key",
    "scaffold",
    "server_optimizer",
    "shared_price",
    "truex",
    "truex_epsilons",
    "truex_plan",
    "truex_trust",
]
