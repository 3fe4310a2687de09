"""One file per published algorithm; each file's docstring opens with the citation.

No file has the name of a function it defines: once imported, a submodule would hide the
function of that name here.
"""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Algorithm": "algorithm",
        "client_phase": "algorithm",
        "client_key": "algorithm",
        "round_key": "algorithm",
        "distributed_dp_sgd": "distributed_noise",
        "fedavg": "federated_averaging",
        "fedprox": "federated_proximal",
        "fedsgd": "federated_sgd",
        "scaffold": "controlled_averaging",
        "server_optimizer": "fedopt",
        "SERVER_OPTIMIZERS": "fedopt",
        "alone": "local_training",
    },
)
