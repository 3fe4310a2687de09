"""From a Flax model to a circuit of affine maps and polynomials."""
