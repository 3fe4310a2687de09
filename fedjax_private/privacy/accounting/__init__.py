"""Privacy accounting: what was run (events), what it costs (RDP), what is left.

Importable and usable alone: it needs NumPy, SciPy and the standard library. An event
describes a mechanism as it was run; an `RdpAccountant` prices it under a neighbouring
relation; `register` adds a new event and its price from a file of your own.

In order of import: `events`, `serialization`, `registry`; `sampled_gaussian`,
`closed_forms`, `amplification` and `prices` (the built-in prices); `conversion`,
`accountant`, `calibration`; `journal`, `histories`, `ledger`.
"""

from fedjax_private.privacy.accounting import prices
from fedjax_private.privacy.accounting.accountant import (
    DEFAULT_ORDERS,
    RdpAccountant,
    Spent,
)
from fedjax_private.privacy.accounting.calibration import (
    calibrate_noise_multiplier,
    calibrate_steps,
)
from fedjax_private.privacy.accounting.events import (
    Approximate,
    BandedMatrix,
    Composed,
    DistributedDiscreteGaussian,
    Event,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    Repeated,
    WithoutReplacement,
    ZCdp,
)
from fedjax_private.privacy.accounting.ledger import (
    BudgetExceeded,
    Ledger,
    LedgerConflict,
    fingerprint,
)
from fedjax_private.privacy.accounting.registry import (
    CoarseGrid,
    Unsupported,
    flatten,
    price,
    register,
)
from fedjax_private.privacy.accounting.serialization import from_json, to_json

__version__ = "0.1.0"  # of the distribution that holds this folder alone

__all__ = [
    "DEFAULT_ORDERS",
    "Approximate",
    "BandedMatrix",
    "BudgetExceeded",
    "CoarseGrid",
    "Composed",
    "DistributedDiscreteGaussian",
    "Event",
    "Gaussian",
    "Laplace",
    "Ledger",
    "LedgerConflict",
    "Neighbors",
    "NoPrivacy",
    "Poisson",
    "Pure",
    "RandomizedResponse",
    "RdpAccountant",
    "Repeated",
    "Spent",
    "Unsupported",
    "WithoutReplacement",
    "ZCdp",
    "calibrate_noise_multiplier",
    "calibrate_steps",
    "fingerprint",
    "flatten",
    "from_json",
    "price",
    "prices",
    "register",
    "to_json",
]
