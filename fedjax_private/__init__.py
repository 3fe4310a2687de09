"""Private federated learning in JAX: FL, differential privacy, homomorphic encryption.

Clients are pure functions mapped over a client axis; each turns its own shard into one
packed update vector under a stated privacy mechanism; between two jitted phases the
vectors pass through an encrypted sum; the server sees only ciphertext and the released
aggregate.
"""

import lazy_loader

# The only place that holds it; pyproject.toml reads it from here.
__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
