"""Privacy accounting: what was run (events), what it costs (RDP), what is left.

Importable and usable alone: it needs NumPy, SciPy and the standard library. An event
describes a mechanism as it was run; an `RdpAccountant` prices it under a neighbouring
relation; `register` teaches the accountant a new event from a file of your own.
"""

from fedjax_private.privacy.accounting import (
    accountant,
    calibration,
    conversion,
    events,
    journal,
    ledger,
    rdp,
)
from fedjax_private.privacy.accounting.accountant import (
    DEFAULT_ORDERS,
    RdpAccountant,
    Spent,
)
from fedjax_private.privacy.accounting.calibration import (
    calibrate_noise_multiplier,
    calibrate_sampling_probability,
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
from fedjax_private.privacy.accounting.rdp import price, register
from fedjax_private.privacy.accounting.registry import Unsupported, flatten
from fedjax_private.privacy.accounting.serialization import from_json, to_json

__all__ = [
    "DEFAULT_ORDERS",
    "Approximate",
    "BandedMatrix",
    "BudgetExceeded",
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
    "accountant",
    "calibrate_noise_multiplier",
    "calibrate_sampling_probability",
    "calibrate_steps",
    "calibration",
    "conversion",
    "events",
    "fingerprint",
    "flatten",
    "from_json",
    "journal",
    "ledger",
    "price",
    "rdp",
    "register",
    "to_json",
]
