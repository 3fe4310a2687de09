"""Client functions (pure, one client each) and the ways to map them over clients.

`for_each` maps them. `training` holds what local training needs, `entries` its
registry, `local_sgd` and `local_dp_sgd` an entry each; `updates` holds the signature of
client functions and makes them of trainers. Each imports only those before it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
