"""Per-example gradients: their norms and their weighted sums.

In order of import: `types` (`ExampleGradients` and arithmetic on it), `sites` (where
parameters meet data in a loss), `parts` (the gradients at one site), `bookkeeping` (all
sites together, from one backward pass), `sums` (every gradient by definition,
book-keeping where possible, and what clients call).
"""
