"""Data sets, their normalisation, and their division over clients.

    dataset = load("mnist_5k")
    parts = partition(dataset.train.labels, clients=8, scheme=Dirichlet(0.5), seed=0)
    data = client_data(dataset.train, parts)  # a pytree (K, N_max, ...)

Everything here is NumPy on the host; TensorFlow is never imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
