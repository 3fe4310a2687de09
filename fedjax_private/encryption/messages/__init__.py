"""Bytes between parties: their format, and the keys that authenticate them."""
