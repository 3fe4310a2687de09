"""Aggregation schemes, a file each, which ends in the scheme's entry.

`openfhe` holds what the encrypted schemes have in common; it comes first.
"""
