"""Values of a program that depend on the images, as the compiler follows them."""

import dataclasses
from typing import TypeAlias

import jax.numpy as jnp

from fedjax_private.typing import Array

# c_0, c_1, ...: a polynomial's coefficients, each broadcastable to the tensor's shape.
Coefficients: TypeAlias = tuple[Array, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class AffineTensor:
    """A tensor that is affine in the inputs of a segment.

    A segment is the part of a network between two polynomials.

    Attributes:
        segment: number of the segment.
        responses: (inputs + 1, *shape): the change by each input, and last the value
            where all inputs are zero.
        scope: path of the layer that computes it.
    """

    segment: int
    responses: Array
    scope: str


@dataclasses.dataclass(frozen=True, eq=False)
class PolynomialTensor:
    """A tensor whose entries are polynomials of an affine tensor's: sum_k c_k base^k.

    Attributes:
        base: the affine tensor.
        coefficients: c_0, c_1, ...; at least two.
    """

    base: AffineTensor
    coefficients: Coefficients

    @classmethod
    def of(cls, base: AffineTensor) -> "PolynomialTensor":
        """The affine tensor itself, as a polynomial of degree 1."""
        return cls(base, (jnp.float32(0.0), jnp.float32(1.0)))

    @property
    def degree(self) -> int:
        """Degree of the polynomials."""
        return len(self.coefficients) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.base.responses.shape[1:])


# A value that depends on the images, or a constant.
Value: TypeAlias = PolynomialTensor | Array
