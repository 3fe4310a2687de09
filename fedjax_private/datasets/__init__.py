"""Data sets, their normalisation, and their division over clients.

    dataset = load("mnist_5k")
    parts = partition(dataset.train.labels, clients=8, scheme=Dirichlet(0.5), seed=0)
    data = client_data(dataset.train, parts)  # a pytree (K, N_max, ...)

Everything here is NumPy on the host; TensorFlow is never imported.
"""

from fedjax_private import _lazy

__getattr__, __dir__, __all__ = _lazy.exports(
    __name__,
    {
        "ClientData": "padding",
        "Dataset": "examples",
        "DatasetError": "examples",
        "Dirichlet": "partitions",
        "Examples": "examples",
        "Iid": "partitions",
        "Normalization": "examples",
        "Scheme": "partitions",
        "Shards": "partitions",
        "client_data": "padding",
        "load": "loading",
        "next_power_of_two": "padding",
        "parse_scheme": "partitions",
        "partition": "partitions",
        "read_idx": "idx",
        "split_validation": "examples",
        "stratified": "examples",
    },
)
