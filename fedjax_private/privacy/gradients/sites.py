"""Where the parameters of a loss meet data: its equations, read for book-keeping."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core

from fedjax_private.programs import flat_program, run_equation
from fedjax_private.typing import Array, LossFn, Params

# Equations that rearrange the entries of their input, where its size stays.
_REARRANGING = frozenset(
    {"reshape", "transpose", "squeeze", "broadcast_in_dim", "rev", "copy"}
)


def variables(eqn: Any) -> list[tuple[int, Any]]:
    """Positions and variables of an equation's inputs that are no literals."""
    return [
        (i, atom)
        for i, atom in enumerate(eqn.invars)
        if not isinstance(atom, core.Literal)
    ]


def is_floating(atom: Any) -> bool:
    """Whether an equation's input or output holds floating-point numbers."""
    return bool(jnp.issubdtype(atom.aval.dtype, jnp.floating))


class Origin(NamedTuple):
    """Where a value that no data decides comes from.

    Attributes:
        leaves: the parameter arrays that it was computed from; none for a constant.
        whole: whether it is one of them, its entries rearranged at most.
    """

    leaves: frozenset[int]
    whole: bool


class Use(NamedTuple):
    """One input of a site that was computed from parameters alone."""

    site: int
    position: int
    origin: Origin


@dataclasses.dataclass(frozen=True)
class Program:
    """The loss of one example as equations, and what is known about them.

    Attributes:
        closed: inputs are the parameter arrays, the example and its label.
        origins: the variables that no data decides.
        makers: which equation computes each of them.
        sites: the equations in which parameters meet data, by number.
        uses: in the order of the sites.
    """

    closed: core.ClosedJaxpr
    origins: dict[Any, Origin]
    makers: dict[Any, Any]
    sites: tuple[Any, ...]
    uses: tuple[Use, ...]

    def reader(self, leaves: Sequence[Array]) -> Callable[[Any], Any]:
        """(variable or literal) -> its value, for those that no data decides."""
        jaxpr = self.closed.jaxpr
        known = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
        known.update(zip(jaxpr.invars, leaves))  # noqa: B905 - not the example's own

        def value(atom: Any) -> Any:
            if isinstance(atom, core.Literal):
                return atom.val
            if atom not in known:
                maker = self.makers[atom]
                outputs = run_equation(maker, [value(a) for a in maker.invars])
                known.update(zip(maker.outvars, outputs, strict=True))
            return known[atom]

        return value

    def operands(self, leaves: Sequence[Array], uses: Sequence[Use]) -> list[Array]:
        """The values of some uses."""
        value = self.reader(leaves)
        return [value(self.sites[use.site].invars[use.position]) for use in uses]

    def run(
        self, leaves: Sequence[Array], taps: Sequence[Sequence[Array]], *example: Array
    ) -> tuple[Array, list[list[Array]]]:
        """The loss of one example, and what each site was given of it.

        Args:
            leaves: the parameter arrays.
            taps: for each site, zeros to be added to its floating-point outputs: their
                gradients are the cotangents of those outputs.
            example: its inputs and label.
        """
        value, jaxpr = self.reader(leaves), self.closed.jaxpr
        known = dict(zip(jaxpr.invars[-len(example) :], example, strict=True))
        numbers = {id(eqn): i for i, eqn in enumerate(self.sites)}
        records: list[list[Array]] = [[] for _ in self.sites]
        for eqn in jaxpr.eqns:
            if all(var in self.origins for var in eqn.outvars):
                continue
            inputs = [
                known[atom] if i in data_positions(eqn, self.origins) else value(atom)
                for i, atom in enumerate(eqn.invars)
            ]
            outputs = run_equation(eqn, inputs)
            if (site := numbers.get(id(eqn))) is not None:
                records[site] = [inputs[i] for i in data_positions(eqn, self.origins)]
                taps_left = iter(taps[site])
                outputs = [
                    out + next(taps_left) if is_floating(var) else out
                    for var, out in zip(eqn.outvars, outputs, strict=True)
                ]
            known.update(zip(eqn.outvars, outputs, strict=True))
        return known[jaxpr.outvars[0]], records


def data_positions(eqn: Any, origins: dict[Any, Origin]) -> list[int]:
    """Positions of the inputs that data decide."""
    return [i for i, var in variables(eqn) if var not in origins]


def read_loss(
    loss: LossFn, params: Params, inputs: Array, labels: Array
) -> Program | None:
    """Traces the loss of one example and finds its sites.

    None where the loss is not decided by parameters and data together.
    """
    closed = flat_program(
        lambda p, x, y: loss(p, x[None], y[None])[0], params, inputs[0], labels[0]
    )
    jaxpr = closed.jaxpr
    origins = {var: Origin(frozenset(), False) for var in jaxpr.constvars}
    for i, var in enumerate(jaxpr.invars[:-2]):
        origins[var] = Origin(frozenset({i}), True)
    makers: dict[Any, Any] = {}
    sites: list[Any] = []
    uses: list[Use] = []
    for eqn in jaxpr.eqns:
        own = [(i, origins[var]) for i, var in variables(eqn) if var in origins]
        if not data_positions(eqn, origins):
            leaves = frozenset[int]().union(*(origin.leaves for _, origin in own))
            rearranged = (
                eqn.primitive.name in _REARRANGING
                and len(own) == 1
                and eqn.invars[own[0][0]].aval.size == eqn.outvars[0].aval.size
            )
            origin = Origin(leaves, rearranged and own[0][1].whole)
            origins.update(dict.fromkeys(eqn.outvars, origin))
            makers.update(dict.fromkeys(eqn.outvars, eqn))
            continue
        here = [
            Use(len(sites), i, origin)
            for i, origin in own
            if origin.leaves and is_floating(eqn.invars[i])
        ]
        if here and any(is_floating(var) for var in eqn.outvars):
            sites.append(eqn)
            uses += here
    (result,) = jaxpr.outvars
    if not sites or isinstance(result, core.Literal) or result in origins:
        return None
    return Program(closed, origins, makers, tuple(sites), tuple(uses))
