"""The round loop of all algorithms.

`chunks` moves rows of clients to the devices and back, `evaluation` scores models, and
`loop` imports both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
