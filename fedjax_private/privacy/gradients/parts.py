"""Per-example gradients of one parameter at one equation: norms, weighted sums."""

import dataclasses
import math
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_private.privacy.gradients.sites import is_floating
from fedjax_private.privacy.gradients.types import (
    kept,
    l2_norms,
    per_example,
    scaled_norms,
    weighted_sum,
)
from fedjax_private.programs import run_equation
from fedjax_private.typing import Array


@dataclasses.dataclass(frozen=True)
class EvaluatedSite:
    """A site and what one backward pass over B examples gives for it.

    Attributes:
        eqn: the equation.
        operands: position -> value, for the inputs that do not depend on data.
        record: the other inputs, each (B, ...).
        cotangents: of the floating-point outputs, each (B, ...).
    """

    eqn: Any
    operands: dict[int, Any]
    record: Sequence[Array]
    cotangents: Sequence[Array]

    def outputs(self, position: int, operand: Array, record: Any) -> list[Array]:
        """Returns one example's floating-point outputs, one operand replaced."""
        operands = self.operands | {position: operand}
        data = iter(record)
        inputs = [
            operands[i] if i in operands else next(data)
            for i in range(len(self.eqn.invars))
        ]
        outputs = run_equation(self.eqn, inputs)
        return [
            output
            for variable, output in zip(self.eqn.outvars, outputs, strict=True)
            if is_floating(variable)
        ]

    def gradients(self, position: int) -> Array:
        """Returns each example's gradient with respect to one operand, (B, ...)."""
        operand = self.operands[position]

        def one(record: Any, cotangents: Any) -> Array:
            _, pull = jax.vjp(lambda v: self.outputs(position, v, record), operand)
            (gradient,) = pull(cotangents)
            return jnp.asarray(gradient)

        return jax.vmap(one)(list(self.record), list(self.cotangents))

    def weighted_sum(self, position: int, factors: Array) -> Array:
        """Returns the weighted sum of those gradients; forms none of them."""
        record = [kept(factors, values) for values in self.record]
        scaled = [
            kept(factors, values) * per_example(factors, values).astype(values.dtype)
            for values in self.cotangents
        ]

        def every(operand: Array) -> list[Array]:
            return jax.vmap(lambda r: self.outputs(position, operand, r))(record)

        _, pull = jax.vjp(every, self.operands[position])
        (total,) = pull(scaled)
        return jnp.asarray(total)


class Part(NamedTuple):
    """The gradients with respect to one operand of a site.

    Attributes:
        norms: (B,).
        weighted_sum: factors (B,) -> the weighted sum of the gradients.
    """

    norms: Array
    weighted_sum: Callable[[Array], Array]


def part_of(site: EvaluatedSite, position: int) -> Part:
    """Returns the gradients with respect to an operand, in the cheapest form."""
    part = _product(site, position) or _lookup(site, position)
    if part is not None:
        return part
    gradients = site.gradients(position)
    return Part(l2_norms(gradients), lambda factors: weighted_sum(factors, gradients))


def _product(site: EvaluatedSite, position: int) -> Part | None:
    """A matrix product: the gradient is the sum of a d^T over an example's rows."""
    if site.eqn.primitive.name != "dot_general" or len(site.record) != 1:
        return None
    contract, batch = site.eqn.params["dimension_numbers"]
    (inputs,), (cotangents,) = site.record, site.cotangents
    # A letter for every axis: those of the operands first, then those of the result.
    letters = iter(string.ascii_letters)
    operands = [[next(letters) for _ in atom.aval.shape] for atom in site.eqn.invars]
    for pairs in (contract, batch):
        for left, right in zip(*pairs, strict=True):
            operands[1][right] = operands[0][left]
    data, parameter = operands[1 - position], operands[position]
    shared = [operands[0][i] for i in batch[0]]
    free = [
        [x for x in names if x not in other]
        for names, other in zip(operands, reversed(operands), strict=True)
    ]
    result = [*shared, *free[0], *free[1]]
    rows = math.prod(
        size
        for name, size in zip(data, inputs.shape[1:], strict=True)
        if name not in parameter
    )
    if rows == 1 and not shared:
        # One row: an outer product, whose norm is the product of the norms.
        norms = scaled_norms(inputs) * scaled_norms(cotangents)
        return Part(norms, lambda factors: site.weighted_sum(position, factors))
    # Formed with the free axes first, as the product gives them without a transposition
    # of anything that has an example axis.
    order = [
        *shared,
        *free[position],
        *(x for x in data if x in parameter and x not in shared),
    ]
    formed = jnp.einsum(
        f"...{''.join(result)},...{''.join(data)}->...{''.join(order)}",
        cotangents,
        inputs,
        precision=site.eqn.params["precision"],
    )

    def total(factors: Array) -> Array:
        summed = weighted_sum(factors, formed)
        return jnp.transpose(summed, [order.index(name) for name in parameter])

    return Part(l2_norms(formed), total)


def _lookup(site: EvaluatedSite, position: int) -> Part | None:
    """A look-up of rows of a table (V, D): adds up the cotangents of equal rows."""
    if site.eqn.primitive.name != "gather" or position != 0:
        return None
    table, (cotangents,) = site.operands[0], site.cotangents
    numbers = site.eqn.params["dimension_numbers"]
    whole_rows = (
        table.ndim == 2
        and tuple(site.eqn.params["slice_sizes"]) == (1, table.shape[1])
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and tuple(numbers.offset_dims) == (cotangents.ndim - 2,)
    )
    if not whole_rows:
        return None
    (indices,) = site.record
    indices = indices.reshape(indices.shape[0], -1)  # (B, T)
    cotangents = cotangents.reshape(*indices.shape, -1)  # (B, T, D)
    if site.eqn.params["mode"] == lax.GatherScatterMode.CLIP:
        indices = jnp.clip(indices, 0, table.shape[0] - 1)
    equal = indices[:, :, None] == indices[:, None, :]  # (B, T, T)
    together = jnp.einsum("bts,bsd->btd", equal.astype(cotangents.dtype), cotangents)
    # Each row once: where it comes first.
    first = jnp.argmax(equal, axis=2) == jnp.arange(indices.shape[1])
    norms = l2_norms(jnp.where(first[..., None], together, 0))
    return Part(norms, lambda factors: site.weighted_sum(0, factors))
