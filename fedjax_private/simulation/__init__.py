"""The round loop of all algorithms.

`schedules` draws who takes part, `chunks` moves rows of clients to and from devices,
`evaluation` scores models, `run` is what the loop takes and returns, `checks` what it
asks of that, and `loop` imports these.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
