"""Mechanisms by name: one file each, which ends in its entry.

`mechanism` holds the entry's class; `gaussian` is DP-SGD, whose clipping `per_layer`,
`automatic` and `adaptive` replace; `banded` stands by itself.
"""

from fedjax_private.choices import Registry
from fedjax_private.privacy.mechanisms.mechanism import Mechanism, adapted

_HERE = "fedjax_private.privacy.mechanisms"
MECHANISMS: Registry[Mechanism] = Registry(
    "mechanism",
    Mechanism,
    {
        "gaussian": f"{_HERE}.gaussian:GAUSSIAN",
        "banded": f"{_HERE}.banded:BANDED",
        "per_layer": f"{_HERE}.per_layer:PER_LAYER",
        "automatic": f"{_HERE}.automatic:AUTOMATIC",
        "adaptive": f"{_HERE}.adaptive:ADAPTIVE",
    },
    adapted,
)
