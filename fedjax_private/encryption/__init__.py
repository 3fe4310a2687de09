"""Encrypted sums: parameters, packing, wire format, and who holds which key.

Importing it imports neither OpenFHE nor JAX: only what makes or uses keys does. A
server that adds ciphertexts needs no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
