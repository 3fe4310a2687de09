"""Predictions on encrypted inputs: a client's image, a server's model, no third party.

Only `compile_model` needs JAX, and importing this does not import OpenFHE.
"""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Affine": "circuit",
        "Circuit": "circuit",
        "Patches": "circuit",
        "Polynomial": "circuit",
        "UnsupportedLayerError": "compiler",
        "compile_model": "compiler",
        "Evaluator": "evaluator",
        "Plan": "planning",
        "PlanError": "placing",
        "plan": "planning",
        "PublicPlan": "public",
        "Querier": "querier",
    },
)
