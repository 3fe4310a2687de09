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
        "dopamine": "semi_central",
        "dopamine_setting": "semi_central",
        "DopamineRun": "semi_central",
        "DopamineSettings": "semi_central",
        "Setting": "semi_central",
        "ClientLevelPlan": "client_level",
        "dp_fedavg": "client_level",
        "participants": "client_level",
        "fedavg": "federated_averaging",
        "fedprox": "federated_proximal",
        "fedsgd": "federated_sgd",
        "claims": "noising_before_aggregation",
        "nbafl": "noising_before_aggregation",
        "NbaflClaim": "noising_before_aggregation",
        "NbaflSettings": "noising_before_aggregation",
        "scaffold": "controlled_averaging",
        "server_optimizer": "fedopt",
        "SERVER_OPTIMIZERS": "fedopt",
        "alone": "local_training",
        "truex": "trusted_parties",
        "truex_epsilons": "trusted_parties",
        "truex_plan": "trusted_parties",
        "truex_trust": "trusted_parties",
        "TruexEpsilons": "trusted_parties",
    },
)
