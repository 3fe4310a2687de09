"""Aggregation schemes: a sum of vectors over clients, in the clear or encrypted."""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "EncryptedAggregation": "encrypted",
        "describe": "encrypted",
        "ProcessAggregation": "processes",
        "PlainAggregation": "plain",
        "SCHEMES": "registry",
        "Options": "registry",
        "make": "registry",
        "request_for": "registry",
        "SelectiveAggregation": "selective",
        "most_sensitive": "selective",
        "sensitivity": "selective",
        "TOPOLOGIES": "topologies",
        "Aggregation": "types",
        "Codec": "types",
        "Session": "types",
        "SessionReport": "types",
    },
)
