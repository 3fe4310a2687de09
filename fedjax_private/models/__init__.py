"""Classifiers: Flax modules, linen or nnx, as pure functions, and chosen by name.

    model = for_dataset("tutorial_cnn", dataset)  # init, apply, loss
    params = model.init(jax.random.key(0))

`lowering`, `network` and then `model` wrap a Flax module; `augmentation` changes a
model's loss; `entry` is the entries' class, `own` makes entries of users' modules;
`polynomial`, `activations`, `cnn`, `mlp` and then `scattering` each hold one family of
networks and end in its entries; `registry` finds entries and builds models.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
