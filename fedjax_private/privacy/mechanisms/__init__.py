"""Mechanisms by name: a file for each kind, which ends in its entries.

`mechanism` holds the entry's class; `gaussian` is DP-SGD with each stateless clipping,
`adaptive` the same with a clip norm that moves; `banded` stands by itself.
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
        "per_layer": f"{_HERE}.gaussian:PER_LAYER",
        "automatic": f"{_HERE}.gaussian:AUTOMATIC",
        "adaptive": f"{_HERE}.adaptive:ADAPTIVE",
    },
    adapted,
)
