"""Aggregation: a sum of vectors over clients, in the clear or encrypted.

`make` sets a scheme of `SCHEMES` up for one training run. Each part imports from those
before it:

    types <- plain                               the contract; sums in the clear
    topologies <- settings                       how uploads travel; what users choose
    sums                                         what encrypted sums have in common
    encrypted, processes                         encrypted sums, of one process or many
    reference                                    encrypted sums by OpenFHE alone
    masked                                       sums under pairwise masks
    selective                                    encrypts the most revealing entries
    entry <- schemes <- registry                 the schemes, a file each, by name
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
