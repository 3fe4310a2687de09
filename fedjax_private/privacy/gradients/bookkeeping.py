"""Per-example gradient norms and sums from one backward pass (ghost norms).

Where a parameter w meets data in an equation y = f(w, a), the gradient of one example
follows from its input a and its cotangent d of y (Goodfellow 2015, "Efficient
Per-Example Gradient Computations"; Bu, Wang, Zha, Karypis 2023, "Differentially Private
Optimization on Large Model at Small Cost", who call this book-keeping). One backward
pass gives the cotangents of all such equations. The norms follow from (a, d), and so
does the sum of the gradients, each times a factor computed from its norm; most
gradients are never formed.

The loss is read as equations, so that any JAX function of any layers will do. An
equation in which a parameter meets data is a *site*:

- a matrix product of one row an example: the gradient is the outer product of a and d,
  its norm the product of theirs, and it is not formed;
- a look-up of rows (an embedding): the cotangents of equal rows are added up;
- everything else, such as a bias, a scale, the patches of a convolution, a whole scan:
  the gradient is formed for every example, from that equation alone.

The parameter in a site may itself be computed from parameters (reshaped, broadcast,
normalised), and a parameter may meet data more than once. In both cases the gradients
at all sites concerned are formed and pulled back, example by example.

No norm is computed as a difference, as in the Gram-matrix form of "ghost norms", where
cancellation in float32 can hide a large part of it.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_private.privacy.gradients.parts import EvaluatedSite, Part, part_of
from fedjax_private.privacy.gradients.sites import Program, Use, is_floating, read_loss
from fedjax_private.privacy.gradients.types import (
    ExampleGradients,
    l2_norms,
    weighted_sum,
)
from fedjax_private.programs import value_of
from fedjax_private.typing import Array, LossFn, Params

_LOG = logging.getLogger(__name__)

# The sites of everyday layers; any other equation is mentioned in the log.
_EVERYDAY = frozenset(
    {"dot_general", "conv_general_dilated", "gather", "add", "sub", "mul", "div"}
)


@functools.cache
def _log_once(message: str) -> None:
    _LOG.info(message)


def bookkept_gradients(
    loss: LossFn, params: Params, inputs: Array, labels: Array
) -> ExampleGradients | None:
    """Returns the examples' gradients, formed only where they must be.

    Args:
        loss: see `LossFn`.
        params: L arrays of P entries.
        inputs: (B, ...).
        labels: (B,).

    Returns:
        None where book-keeping does not apply: the loss does not depend on parameters
        and data together.
    """
    program = read_loss(loss, params, inputs, labels)
    if program is None:
        return None
    for site in program.sites:
        if (name := site.eqn.primitive.name) not in _EVERYDAY:
            _log_once(f"per-example gradients through {name} are formed whole")
    leaves, structure = jax.tree.flatten(params)
    losses, sites = _backward(program, leaves, inputs, labels)
    parts: dict[int, Part] = {}
    for members, uses in _groups(program.uses, len(leaves)):
        own = _parts(program, leaves, sites, members, uses, len(inputs))
        parts.update(zip(members, own, strict=True))
    in_order = [parts[i] for i in range(len(leaves))]

    def total(factors: Array) -> Params:
        each = jnp.broadcast_to(factors, (len(leaves), len(inputs)))
        sums = [part.weighted_sum(f) for part, f in zip(in_order, each, strict=True)]
        return jax.tree.unflatten(structure, sums)

    norms = jnp.stack([part.norms for part in in_order])
    return ExampleGradients(losses, norms, total)


def _backward(
    program: Program, leaves: Sequence[Array], inputs: Array, labels: Array
) -> tuple[Array, list[EvaluatedSite]]:
    """Returns the losses (B,) and all sites, from one backward pass."""
    taps = [
        [
            jnp.zeros((len(inputs), *variable.aval.shape), variable.aval.dtype)
            for variable in site.eqn.outvars
            if is_floating(variable)
        ]
        for site in program.sites
    ]
    fixed_values = program.fixed_values(leaves)

    def total(taps: Any) -> tuple[Array, Any]:
        losses, records = jax.vmap(
            lambda taps, *example: program.run(fixed_values, taps, *example)
        )(taps, inputs, labels)
        return jnp.sum(losses), (losses, records)

    cotangents, (losses, records) = jax.grad(total, has_aux=True)(taps)
    sites = [
        EvaluatedSite(
            site.eqn,
            {
                i: value_of(atom, fixed_values)
                for i, atom in enumerate(site.eqn.invars)
                if i not in site.data
            },
            record,
            cotangent,
        )
        for site, record, cotangent in zip(
            program.sites, records, cotangents, strict=True
        )
    ]
    return losses, sites


def _groups(uses: Sequence[Use], leaves: int) -> list[tuple[list[int], list[Use]]]:
    """Groups parameter arrays that share uses, with those; each array is in one."""
    groups: list[tuple[set[int], list[Use]]] = [({i}, []) for i in range(leaves)]
    for use in uses:
        touched = [group for group in groups if group[0] & use.origin.leaves]
        merged: tuple[set[int], list[Use]] = (set(), [use])
        for group in touched:
            merged[0].update(group[0])
            merged[1].extend(group[1])
            groups.remove(group)
        groups.append(merged)
    return [(sorted(members), uses) for members, uses in groups]


def _parts(
    program: Program,
    leaves: Sequence[Array],
    sites: Sequence[EvaluatedSite],
    members: Sequence[int],
    uses: Sequence[Use],
    size: int,
) -> list[Part]:
    """Returns the gradients of the parameter arrays of one group; see `_groups`."""
    if not uses:  # an array that the loss does not depend on
        (member,) = members
        nothing = jnp.zeros_like(leaves[member])
        return [Part(jnp.zeros(size, jnp.float32), lambda factors: nothing)]

    def operands(*values: Array) -> list[Array]:
        every = list(leaves)
        for member, value in zip(members, values, strict=True):
            every[member] = value
        return program.operands(every, uses)

    _, pull = jax.vjp(operands, *(leaves[i] for i in members))
    if len(uses) == 1 and uses[0].origin.whole:
        part = part_of(sites[uses[0].site], uses[0].position)

        def total(factors: Array) -> Array:
            (gradient,) = pull([part.weighted_sum(factors)])
            return jnp.asarray(gradient)

        return [Part(part.norms, total)]
    formed = [sites[use.site].gradients(use.position) for use in uses]
    return [
        Part(l2_norms(gradients), functools.partial(weighted_sum, gradients=gradients))
        for gradients in jax.vmap(pull)(formed)
    ]
