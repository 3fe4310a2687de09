"""Client functions (pure, one client each) and the ways to map them over clients."""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "BACKENDS": "for_each",
        "ClientError": "for_each",
        "client_mesh": "for_each",
        "default_backend": "for_each",
        "for_each_client": "for_each",
        "use_all_cores": "for_each",
        "Direction": "training",
        "DpSgdConfig": "training",
        "SgdConfig": "training",
        "Trainer": "training",
        "TrainState": "training",
        "dp_sgd": "training",
        "sgd": "training",
        "ClientOutput": "types",
        "ClientUpdate": "types",
        "alone": "updates",
        "by_examples": "updates",
        "equally": "updates",
        "federated": "updates",
        "kept": "updates",
        "sharing_noise": "updates",
    },
)
