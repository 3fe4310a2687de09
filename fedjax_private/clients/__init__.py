"""Client functions (pure, one client each) and the ways to map them over clients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
