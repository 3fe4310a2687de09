"""The round loop, evaluation, checkpoints and what a run leaves behind."""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "restore": "checkpoints",
        "save": "checkpoints",
        "Evaluation": "evaluation",
        "evaluator": "evaluation",
        "Ids": "chunks",
        "Round": "loop",
        "Run": "loop",
        "cohorts": "loop",
        "drop_outs": "loop",
        "root_keys": "loop",
        "simulate": "loop",
        "simulate_together": "loop",
        "spread": "chunks",
        "RunDirectory": "records",
        "read_rows": "records",
        "progress": "terminal",
    },
)
