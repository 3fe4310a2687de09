"""Finds the equations of a loss in which its parameters meet data ("sites")."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core

from fedjax_private import programs
from fedjax_private.typing import Array, LossFn, Params

# Equations that rearrange the entries of their input, where its size stays.
_REARRANGING = frozenset(
    {"reshape", "transpose", "squeeze", "broadcast_in_dim", "rev", "copy"}
)


def is_floating(atom: Any) -> bool:
    """Whether an equation's input or output holds floating-point numbers."""
    return bool(jnp.issubdtype(atom.aval.dtype, jnp.floating))


class Origin(NamedTuple):
    """How a value that does not depend on data is computed.

    Attributes:
        leaves: the parameter arrays that it depends on; none for a constant.
        whole: whether it is one of them, its entries rearranged at most.
        equations: the equations that compute it, as positions in `Program.fixed`.
    """

    leaves: frozenset[int] = frozenset()
    whole: bool = False
    equations: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Site:
    """An equation in which parameters meet data.

    Attributes:
        eqn: the equation.
        data: positions of the inputs that depend on data.
    """

    eqn: Any
    data: tuple[int, ...]


class Use(NamedTuple):
    """An input of a site that is computed from parameters alone.

    Attributes:
        site: the site, as a position in `Program.sites`.
        position: of the input.
        origin: of its value.
    """

    site: int
    position: int
    origin: Origin


@dataclasses.dataclass(frozen=True)
class Program:
    """The loss of one example as equations, sorted by whether they depend on data.

    Attributes:
        closed: the program; its inputs are the parameter arrays, the example and its
            label.
        fixed: the equations that do not depend on data, in order.
        varying: the other equations, in order.
        sites: those of them in which parameters meet data.
        uses: in the order of the sites.
    """

    closed: core.ClosedJaxpr
    fixed: tuple[core.JaxprEqn, ...]
    varying: tuple[core.JaxprEqn, ...]
    sites: tuple[Site, ...]
    uses: tuple[Use, ...]

    def _given(self, leaves: Sequence[Array]) -> dict[Any, Any]:
        jaxpr = self.closed.jaxpr
        values = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
        values.update(zip(jaxpr.invars[:-2], leaves, strict=True))
        return values

    def fixed_values(self, leaves: Sequence[Array]) -> dict[Any, Any]:
        """Returns the values of all variables that do not depend on data."""
        values = self._given(leaves)
        programs.evaluate_equations(self.fixed, values)
        return values

    def operands(self, leaves: Sequence[Array], uses: Sequence[Use]) -> list[Array]:
        """Returns the values of some uses; runs only the equations that they need."""
        needed = frozenset[int]().union(*(use.origin.equations for use in uses))
        values = self._given(leaves)
        programs.evaluate_equations((self.fixed[i] for i in sorted(needed)), values)
        atoms = (self.sites[use.site].eqn.invars[use.position] for use in uses)
        return [programs.value_of(atom, values) for atom in atoms]

    def run(
        self,
        fixed_values: dict[Any, Any],
        taps: Sequence[Sequence[Array]],
        example: Array,
        label: Array,
    ) -> tuple[Array, list[list[Array]]]:
        """Returns the loss of one example, and the data that each site is given.

        Args:
            fixed_values: see the method of that name.
            taps: for each site, zeros to be added to its floating-point outputs: their
                gradients are the cotangents of those outputs.
            example: the example.
            label: its label.
        """
        jaxpr = self.closed.jaxpr
        values = dict(fixed_values)
        values.update(zip(jaxpr.invars[-2:], (example, label), strict=True))
        numbers = {id(site.eqn): i for i, site in enumerate(self.sites)}
        records: list[list[Array]] = [[] for _ in self.sites]

        def tapped(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> list[Any] | None:
            number = numbers.get(id(eqn))
            if number is None:
                return None
            records[number] = [inputs[i] for i in self.sites[number].data]
            remaining = iter(taps[number])
            return [
                output + next(remaining) if is_floating(variable) else output
                for variable, output in zip(
                    eqn.outvars, programs.run_equation(eqn, inputs), strict=True
                )
            ]

        programs.evaluate_equations(self.varying, values, tapped)
        return values[jaxpr.outvars[0]], records


# Stands for every value that depends on data.
_DATA = object()


def read_loss(
    loss: LossFn, params: Params, inputs: Array, labels: Array
) -> Program | None:
    """Traces the loss of one example and finds its sites.

    Returns:
        None where no site leads to the loss: it does not depend on data, or no
        parameter meets data.
    """
    closed = programs.flat_program(
        lambda p, x, y: loss(p, x[None], y[None])[0], params, inputs[0], labels[0]
    )
    fixed: list[core.JaxprEqn] = []
    varying: list[core.JaxprEqn] = []
    sites: list[Site] = []
    uses: list[Use] = []

    def sort(eqn: core.JaxprEqn, values: Sequence[Any]) -> list[Any]:
        """Sorts one equation; values are origins, `_DATA`, or constants."""
        data = tuple(i for i, value in enumerate(values) if value is _DATA)
        origins = {i: v for i, v in enumerate(values) if isinstance(v, Origin)}
        if not data:
            origin = _origin(eqn, list(origins.values()), len(fixed))
            fixed.append(eqn)
            return [origin] * len(eqn.outvars)
        varying.append(eqn)
        if any(is_floating(variable) for variable in eqn.outvars):
            here = [
                Use(len(sites), i, origin)
                for i, origin in origins.items()
                if origin.leaves and is_floating(eqn.invars[i])
            ]
            if here:
                sites.append(Site(eqn, data))
                uses.extend(here)
        return [_DATA] * len(eqn.outvars)

    leaves = len(closed.jaxpr.invars) - 2
    origins = [Origin(frozenset({i}), whole=True) for i in range(leaves)]
    (result,) = programs.evaluate(closed, [*origins, _DATA, _DATA], sort)
    if not sites or result is not _DATA:
        return None
    return Program(closed, tuple(fixed), tuple(varying), tuple(sites), tuple(uses))


def _origin(eqn: Any, origins: Sequence[Origin], number: int) -> Origin:
    """Returns the origin of an equation's outputs; `number` is its own in `fixed`."""
    rearranged = (
        eqn.primitive.name in _REARRANGING
        and len(origins) == 1
        and eqn.invars[0].aval.size == eqn.outvars[0].aval.size
    )
    return Origin(
        frozenset[int]().union(*(origin.leaves for origin in origins)),
        rearranged and origins[0].whole,
        frozenset({number}).union(*(origin.equations for origin in origins)),
    )
