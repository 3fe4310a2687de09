"""Published algorithms, a file each: its citation, its functions and its entry.

Of the other files, `forms` checks what users give, `algorithm` holds the type of all
algorithms, `prices` what privacy costs a run, `fedopt` the server optimisers, and
`entry` the registry of algorithms; each imports only those before it, and the
algorithms import these five. `fedavg` and
`distributed_dp_sgd` serve other algorithms.

The package imports its files at once, so that a function is found here even where its
file has the same name.
"""

from fedjax_private.algorithms.algorithm import (
    Algorithm as Algorithm,
    client_key as client_key,
    client_phase as client_phase,
    round_key as round_key,
)
from fedjax_private.algorithms.distributed_dp_sgd import (
    distributed_dp_sgd as distributed_dp_sgd,
)
from fedjax_private.algorithms.dopamine import dopamine as dopamine
from fedjax_private.algorithms.dp_fedavg import (
    ClientLevelPlan as ClientLevelPlan,
    dp_fedavg as dp_fedavg,
)
from fedjax_private.algorithms.entry import (
    ALGORITHMS as ALGORITHMS,
    AlgorithmEntry as AlgorithmEntry,
    Task as Task,
    Training as Training,
)
from fedjax_private.algorithms.fedavg import fedavg as fedavg
from fedjax_private.algorithms.fedopt import (
    SERVER_OPTIMIZERS as SERVER_OPTIMIZERS,
    ServerOptimizer as ServerOptimizer,
    server_optimizer as server_optimizer,
)
from fedjax_private.algorithms.fedprox import fedprox as fedprox
from fedjax_private.algorithms.fedsgd import fedsgd as fedsgd
from fedjax_private.algorithms.local import alone as alone
from fedjax_private.algorithms.nbafl import (
    NbaflSettings as NbaflSettings,
    nbafl as nbafl,
)
from fedjax_private.algorithms.prices import (
    Privacy as Privacy,
    Terms as Terms,
    Unit as Unit,
    local_price as local_price,
    shared_price as shared_price,
)
from fedjax_private.algorithms.scaffold import scaffold as scaffold
from fedjax_private.algorithms.truex import truex as truex, truex_plan as truex_plan
