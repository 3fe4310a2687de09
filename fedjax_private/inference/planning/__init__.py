"""From a circuit to a ring, scales, and what a query will cost."""
