"""From a Flax model to a circuit of affine maps and polynomials.

In order of import: `circuit`, the layers as plain numbers; `canonical`, the form that
is cheapest encrypted; `convolutions`; and with JAX `primitives` (the table of
operations that can be compiled) and `compiler`.
"""
