"""Flags of the commands, and the log of the search for default values."""
