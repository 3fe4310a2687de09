"""One file per published algorithm; each file's docstring opens with the citation.

No file has the name of a function it defines: once imported, a submodule would hide the
function of that name here.
"""

from fedjax_private.algorithms.algorithm import (
    Algorithm,
    client_key,
    client_phase,
    round_key,
)
from fedjax_private.algorithms.distributed_dp_sgd import distributed_dp_sgd
from fedjax_private.algorithms.dopamine import (
    DopamineRun,
    DopamineSettings,
    Setting,
    dopamine,
    dopamine_setting,
)
from fedjax_private.algorithms.dp_fedavg import (
    ClientLevelPlan,
    dp_fedavg,
    participants,
)
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.algorithms.fedopt import (
    SERVER_OPTIMIZERS,
    server_optimizer,
)
from fedjax_private.algorithms.fedprox import fedprox
from fedjax_private.algorithms.fedsgd import fedsgd
from fedjax_private.algorithms.local import alone
from fedjax_private.algorithms.nbafl import (
    NbaflClaim,
    NbaflSettings,
    claims,
    nbafl,
)
from fedjax_private.algorithms.scaffold import scaffold
from fedjax_private.algorithms.truex import (
    TruexEpsilons,
    truex,
    truex_epsilons,
    truex_plan,
    truex_trust,
)

__all__ = [
    "SERVER_OPTIMIZERS",
    "Algorithm",
    "ClientLevelPlan",
    "DopamineRun",
    "DopamineSettings",
    "NbaflClaim",
    "NbaflSettings",
    "Setting",
    "TruexEpsilons",
    "alone",
    "claims",
    "client_key",
    "client_phase",
    "distributed_dp_sgd",
    "dopamine",
    "dopamine_setting",
    "dp_fedavg",
    "fedavg",
    "fedprox",
    "fedsgd",
    "nbafl",
    "participants",
    "round_key",
    "scaffold",
    "server_optimizer",
    "truex",
    "truex_epsilons",
    "truex_plan",
    "truex_trust",
]
