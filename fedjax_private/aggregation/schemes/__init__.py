"""Aggregation schemes, a file each, which ends in the scheme's entry.

`openfhe` holds the functions that the encrypted schemes share.
"""
