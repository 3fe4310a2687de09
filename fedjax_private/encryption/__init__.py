"""Encrypted sums: parameters, packing, wire format, and who holds which key.

Importing it imports neither OpenFHE nor JAX: only what makes or uses keys does. A
server that adds ciphertexts needs no JAX.
"""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "OpenFHEUnavailable": "backend",
        "Material": "material",
        "Parameters": "parameters",
        "Scheme": "parameters",
        "SumRequest": "parameters",
        "derive": "parameters",
        "Identity": "channels",
        "Party": "channels",
        "AggregationServer": "server",
        "Encryptor": "roles",
        "KeyAuthority": "roles",
        "Fusion": "server",
        "KeyHolder": "threshold",
        "make_joint_key": "threshold",
        "AUTHORITY": "wire",
        "EDGES": "wire",
        "SERVER": "wire",
        "Kind": "wire",
        "ProtocolError": "wire",
        "RefusedError": "wire",
        "WireError": "wire",
        "Workers": "workers",
    },
)
