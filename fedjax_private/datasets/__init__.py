"""Data sets, their normalisation, and their division over clients.

    dataset = load("mnist_5k")
    scheme = PARTITIONS.choose("dirichlet", {"alpha": 0.5})
    parts = partition(dataset.train.labels, clients=8, scheme=scheme, seed=0)
    data = client_data(dataset.train, parts)  # a pytree (K, N_max, ...)

`examples` and then `clients` define the types; `arrays` makes a data set of arrays;
`partitions/` divides examples over clients; `prepare`, which is also a command,
prepares TFDS' sets; `sources/` loads. Everything is
NumPy on the host; TensorFlow is imported by the command alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
