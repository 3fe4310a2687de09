"""Commands: sweep, train, tune, benchmark, and what they share."""
