"""Predictions on encrypted inputs: a client's image, a server's model, no third party.

Only `compile_model` needs JAX, and importing this does not import OpenFHE.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
