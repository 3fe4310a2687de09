"""Privacy accounting: what was run (events), what it costs (RDP), what is left.

Importable and usable alone: it needs NumPy, SciPy and the standard library. An event
describes a mechanism as it was run; an `RdpAccountant` prices it under a neighbouring
relation; `register` teaches the accountant a new event from a file of your own.
"""

from fedjax_private import _lazy

__getattr__, __dir__, __all__ = _lazy.exports(
    __name__,
    {
        "Approximate": "events",
        "BandedMatrix": "events",
        "BudgetExceeded": "ledger",
        "Composed": "events",
        "DEFAULT_ORDERS": "accountant",
        "DistributedDiscreteGaussian": "events",
        "Event": "events",
        "Gaussian": "events",
        "Laplace": "events",
        "Ledger": "ledger",
        "LedgerConflict": "ledger",
        "Neighbors": "events",
        "NoPrivacy": "events",
        "Poisson": "events",
        "Pure": "events",
        "RandomizedResponse": "events",
        "RdpAccountant": "accountant",
        "Repeated": "events",
        "Spent": "accountant",
        "Unsupported": "registry",
        "WithoutReplacement": "events",
        "ZCdp": "events",
        "accountant": "accountant",
        "calibrate_noise_multiplier": "calibration",
        "calibrate_sampling_probability": "calibration",
        "calibrate_steps": "calibration",
        "calibration": "calibration",
        "conversion": "conversion",
        "events": "events",
        "fingerprint": "ledger",
        "flatten": "registry",
        "from_json": "events",
        "journal": "journal",
        "ledger": "ledger",
        "price": "rdp",
        "rdp": "rdp",
        "register": "rdp",
        "to_json": "events",
    },
)
