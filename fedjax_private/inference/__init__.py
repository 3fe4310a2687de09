"""Predictions on encrypted images: a client's image, a server's model, no third party.

Four rooms, each of which imports only those above it:

    compiling    from a Flax model to a circuit of affine maps and polynomials
    planning     from a circuit to a ring, scales, layouts and costs: numbers only
    evaluating   both sides of a session: the querier, and the evaluator
    serving      an HTTP service, its clients, and heads for split serving

Only `compile_model` needs JAX, and importing this does not import OpenFHE.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
