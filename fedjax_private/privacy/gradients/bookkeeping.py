"""Norms and sums of per-example gradients from one backward pass.

Most gradients never need to be held, one an example: where a parameter w meets data in
an equation y = f(w, a), the gradient of one example follows from its input a and its
cotangent d of y alone (Goodfellow 2015, "Efficient Per-Example Gradient Computations";
Bu, Wang, Zha, Karypis 2023, "Differentially Private Optimization on Large Model at
Small Cost", whose name for it, book-keeping, this has). One backward pass gives the
cotangents of all such equations; norms come from (a, d), and so does the sum of the
gradients, each times a factor that was found from its norm.

The loss is read as its equations, so any JAX function will do, and whatever layers it
is made of. An equation in which a parameter meets data is a *site*:

- a matrix product of one row an example: the gradient is the outer product of a and d,
  its norm the product of theirs, and it is not formed;
- a look-up of rows (an embedding): the cotangents of equal rows are added up;
- everything else, such as a bias, a scale, the patches of a convolution, a whole scan:
  the gradient is formed for every example, from that equation alone.

The parameter in a site may itself have been computed from parameters (reshaped,
broadcast, normalised), and a parameter may meet data more than once: then the gradients
of all sites concerned are formed and carried back, example by example.

No norm is found as a difference, as in the Gram-matrix form of "ghost norms", where
cancellation in float32 can hide a large part of it.
"""

import functools
import logging
import math
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_private.privacy.gradients.sites import (
    Program,
    Use,
    data_positions,
    is_floating,
    read_loss,
)
from fedjax_private.privacy.gradients.sums import (
    ExampleGradients,
    kept,
    l2_norms,
    per_example,
    weighted_sum,
)
from fedjax_private.programs import run_equation
from fedjax_private.typing import Array, LossFn, Params

_LOG = logging.getLogger(__name__)

# What makes a site in everyday layers; anything else is worth a word in the log.
_EVERYDAY = frozenset(
    {"dot_general", "conv_general_dilated", "gather", "add", "sub", "mul", "div"}
)


def _scaled_norms(vectors: Array) -> Array:
    """`l2_norms`, also where squares leave float32's range and the norms do not.

    The factors of a gradient of ordinary size may be as large and as small as that.
    """
    flat = vectors.reshape(len(vectors), -1)
    squares = jnp.einsum("bi,bi->b", flat, flat)
    ordinary = (squares > 1e-30) & (squares < 1e30)  # not where there is a NaN

    def rescaled() -> Array:
        # Far from float32's ends, so that its reciprocal, by which XLA may multiply
        # where this divides, is not flushed to zero. NaN stays NaN.
        largest = jnp.max(jnp.abs(flat), axis=1, keepdims=True)
        scale = jnp.clip(largest, 1e-30, 1e30)
        norms = l2_norms(flat / scale) * scale[:, 0]
        # An example's norm depends on that example alone, to the last bit: rounding
        # must not tell of the others, nor move what they contribute.
        return jnp.where(ordinary, jnp.sqrt(squares), norms)

    return jax.lax.cond(jnp.all(ordinary), lambda: jnp.sqrt(squares), rescaled)


class _Site(NamedTuple):
    """A site with what one backward pass has found out about it.

    Attributes:
        eqn: the equation.
        operands: position -> value, for the inputs that no data decides.
        record: the other inputs, each (B, ...).
        cotangents: of the floating-point outputs, each (B, ...).
    """

    eqn: Any
    operands: dict[int, Any]
    record: Sequence[Array]
    cotangents: Sequence[Array]

    def outputs(
        self, positions: Sequence[int], values: Any, record: Any
    ) -> list[Array]:
        """One example's floating-point outputs, some operands given anew."""
        operands = self.operands | dict(zip(positions, values, strict=True))
        others = iter(record)
        inputs = [
            operands[i] if i in operands else next(others)
            for i in range(len(self.eqn.invars))
        ]
        outputs = run_equation(self.eqn, inputs)
        return [
            out
            for var, out in zip(self.eqn.outvars, outputs, strict=True)
            if is_floating(var)
        ]

    def gradients(self, positions: Sequence[int]) -> tuple[Array, ...]:
        """Each example's gradient with respect to some operands, (B, ...) each."""
        own = [self.operands[i] for i in positions]

        def one(record: Any, cotangents: Any) -> tuple[Array, ...]:
            _, pull = jax.vjp(lambda *v: self.outputs(positions, v, record), *own)
            gradients: tuple[Array, ...] = pull(cotangents)
            return gradients

        return jax.vmap(one)(list(self.record), list(self.cotangents))

    def sum(self, position: int, factors: Array) -> Array:
        """The gradients' weighted sum with respect to one operand, none formed."""
        record = [kept(factors, values) for values in self.record]
        scaled = [
            kept(factors, values) * per_example(factors, values).astype(values.dtype)
            for values in self.cotangents
        ]

        def every(operand: Array) -> list[Array]:
            return jax.vmap(lambda r: self.outputs([position], [operand], r))(record)

        _, pull = jax.vjp(every, self.operands[position])
        (total,) = pull(scaled)
        return jnp.asarray(total)


class _Part(NamedTuple):
    """The gradients of one use: their norms (B,), and factors (B,) -> their sum."""

    norms: Array
    sum: Callable[[Array], Array]


# (site, the use's position) -> its gradients, or None where it is of another kind.
_Kind: TypeAlias = Callable[[_Site, int], _Part | None]


def _product(site: _Site, position: int) -> _Part | None:
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
    data, own = operands[1 - position], operands[position]
    shared = [operands[0][i] for i in batch[0]]
    free = [
        [x for x in names if x not in other]
        for names, other in zip(operands, reversed(operands), strict=True)
    ]
    result = [*shared, *free[0], *free[1]]
    rows = math.prod(
        size
        for name, size in zip(data, inputs.shape[1:], strict=True)
        if name not in own
    )
    if rows == 1 and not shared:
        # One row: an outer product, whose norm is the product of the norms.
        norms = _scaled_norms(inputs) * _scaled_norms(cotangents)
        return _Part(norms, lambda factors: site.sum(position, factors))
    # Formed with the free axes first, as the product gives them without a transposition
    # of anything that has an example axis.
    order = [
        *shared,
        *free[position],
        *(x for x in data if x in own and x not in shared),
    ]
    formed = jnp.einsum(
        f"...{''.join(result)},...{''.join(data)}->...{''.join(order)}",
        cotangents,
        inputs,
        precision=site.eqn.params["precision"],
    )

    def total(factors: Array) -> Array:
        summed = weighted_sum(factors, formed)
        return jnp.transpose(summed, [order.index(name) for name in own])

    return _Part(l2_norms(formed), total)


def _lookup(site: _Site, position: int) -> _Part | None:
    """Rows of a table (V, D): cotangents of equal rows belong together."""
    if site.eqn.primitive.name != "gather" or position != 0:
        return None
    table = site.operands[0]
    numbers, sizes = (
        site.eqn.params["dimension_numbers"],
        site.eqn.params["slice_sizes"],
    )
    rows = (
        table.ndim == 2
        and tuple(sizes) == (1, table.shape[1])
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and tuple(numbers.offset_dims) == (site.cotangents[0].ndim - 2,)
    )
    if not rows:
        return None
    (indices,), (cotangents,) = site.record, site.cotangents
    indices = indices.reshape(indices.shape[0], -1)  # (B, T)
    cotangents = cotangents.reshape(*indices.shape, -1)  # (B, T, D)
    if site.eqn.params["mode"] == lax.GatherScatterMode.CLIP:
        indices = jnp.clip(indices, 0, table.shape[0] - 1)
    equal = indices[:, :, None] == indices[:, None, :]  # (B, T, T)
    together = jnp.einsum("bts,bsd->btd", equal.astype(cotangents.dtype), cotangents)
    # Each row once: where it comes first.
    first = jnp.argmax(equal, axis=2) == jnp.arange(indices.shape[1])
    norms = l2_norms(jnp.where(first[..., None], together, 0))
    return _Part(norms, lambda factors: site.sum(0, factors))


def _formed(site: _Site, position: int) -> _Part:
    """Any equation: its gradients, formed for every example."""
    (gradients,) = site.gradients([position])
    return _Part(l2_norms(gradients), lambda factors: weighted_sum(factors, gradients))


_KINDS: tuple[_Kind, ...] = (_product, _lookup)


def _part(site: _Site, position: int) -> _Part:
    for kind in _KINDS:
        if (part := kind(site, position)) is not None:
            return part
    return _formed(site, position)


def _groups(uses: Sequence[Use], leaves: int) -> list[tuple[list[int], list[Use]]]:
    """Parameter arrays that share uses, with those; every array is in one group."""
    groups: list[tuple[set[int], list[Use]]] = [({i}, []) for i in range(leaves)]
    for use in uses:
        touched = [group for group in groups if group[0] & use.origin.leaves]
        merged: tuple[set[int], list[Use]] = (set(), [use])
        for group in touched:
            merged[0].update(group[0])
            merged[1].extend(group[1])
            groups.remove(group)
        groups.append(merged)
    return [(sorted(members), own) for members, own in groups]


@functools.cache
def _say(what: str) -> None:
    """Says something once."""
    _LOG.info(what)


def bookkept_gradients(
    loss: LossFn, params: Params, inputs: Array, labels: Array
) -> ExampleGradients | None:
    """The examples' gradients, as far as possible without forming them.

    Args:
        loss: see `LossFn`.
        params: L arrays of P entries.
        inputs: (B, ...).
        labels: (B,).

    Returns:
        The gradients; None where there is nothing to keep books of, since the loss is
        not decided by parameters and data together.
    """
    program = read_loss(loss, params, inputs, labels)
    if program is None:
        return None
    leaves = jax.tree.leaves(params)
    size = inputs.shape[0]
    for eqn in program.sites:
        if eqn.primitive.name not in _EVERYDAY:
            _say(f"per-example gradients through {eqn.primitive.name} are formed whole")
    taps = [
        [
            jnp.zeros((size, *var.aval.shape), var.aval.dtype)
            for var in eqn.outvars
            if is_floating(var)
        ]
        for eqn in program.sites
    ]

    def total(taps: Any) -> tuple[Array, Any]:
        losses, records = jax.vmap(
            lambda taps, *example: program.run(leaves, taps, *example)
        )(taps, inputs, labels)
        return jnp.sum(losses), (losses, records)

    cotangents, (losses, records) = jax.grad(total, has_aux=True)(taps)
    value = program.reader(leaves)
    sites = [
        _Site(
            eqn,
            {
                i: value(atom)
                for i, atom in enumerate(eqn.invars)
                if i not in data_positions(eqn, program.origins)
            },
            record,
            cotangent,
        )
        for eqn, record, cotangent in zip(
            program.sites, records, cotangents, strict=True
        )
    ]
    norms: dict[int, Array] = {}
    sums: dict[int, Callable[[Array], Array]] = {}
    for members, uses in _groups(program.uses, len(leaves)):
        norms_here, sums_here = _group(program, leaves, sites, members, uses, size)
        norms.update(zip(members, norms_here, strict=True))
        sums.update(zip(members, sums_here, strict=True))

    def weighted(factors: Array) -> Params:
        each = jnp.broadcast_to(factors, (len(leaves), size))
        total = [sums[i](each[i]) for i in range(len(leaves))]
        return jax.tree.unflatten(jax.tree.structure(params), total)

    return ExampleGradients(
        losses, jnp.stack([norms[i] for i in range(len(leaves))]), weighted
    )


def _group(
    program: Program,
    leaves: Sequence[Array],
    sites: Sequence[_Site],
    members: Sequence[int],
    uses: Sequence[Use],
    size: int,
) -> tuple[list[Array], list[Callable[[Array], Array]]]:
    """Norms and sums of the gradients of arrays that share uses; see `_groups`."""
    if not uses:  # an array that the loss does not depend on
        (member,) = members
        nothing = jnp.zeros_like(leaves[member])
        return [jnp.zeros(size, jnp.float32)], [lambda factors: nothing]
    own = [leaves[i] for i in members]

    def operands(*values: Array) -> list[Array]:
        every = list(leaves)
        for member, value in zip(members, values, strict=True):
            every[member] = value
        return program.operands(every, uses)

    _, pull = jax.vjp(operands, *own)
    if len(uses) == 1 and uses[0].origin.whole:
        part = _part(sites[uses[0].site], uses[0].position)

        def total(factors: Array) -> Array:
            (gradient,) = pull([part.sum(factors)])
            return jnp.asarray(gradient)

        return [part.norms], [total]
    formed: list[Array] = [sites[use.site].gradients([use.position])[0] for use in uses]
    gradients = jax.vmap(pull)(formed)
    return (
        [l2_norms(gradient) for gradient in gradients],
        [functools.partial(weighted_sum, gradients=g) for g in gradients],
    )
