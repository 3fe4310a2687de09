"""Differential privacy: sampling, clipping, noise, and what they cost together.

In order of import: `accounting` (events and their price; usable alone), `gradients`
(per-example gradients), `sampling`, `clipping`, `noise`, `discrete` (integer noise),
`plan` (the three tied to their event), `shares` (noise that clients share), and
`mechanisms` (plans by name).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
