"""Functions as the equations that they are made of: read, rewritten, run again.

JAX traces a function into a jaxpr, a list of equations over primitives. What works on
that list works for every model, whatever library its layers come from.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
from jax.extend import core

# (equation, values of its inputs) -> values of its outputs; None leaves it as it is.
Rule: TypeAlias = Callable[[core.JaxprEqn, Sequence[Any]], Sequence[Any] | None]

# Calls that are nothing but their body. Those of custom derivatives, loops and
# rematerialisation mean more than that, and stay.
_CALLS = frozenset({"pjit", "jit", "closed_call", "core_call"})


def run_equation(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of one equation."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Older JAX releases give functions apart from the other parameters.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = eqn.primitive.bind(*functions, *inputs, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def read(atom: Any, values: dict[Any, Any]) -> Any:
    """The value of an equation's input: a literal, or a variable that has one."""
    return atom.val if isinstance(atom, core.Literal) else values[atom]


def evaluate(
    program: core.ClosedJaxpr, arguments: Sequence[Any], rule: Rule
) -> list[Any]:
    """Runs a program, calls inlined, with `rule` in place of some equations."""
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for eqn in jaxpr.eqns:
        inputs = [read(atom, values) for atom in eqn.invars]
        if eqn.primitive.name in _CALLS:
            body = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
            outputs: Sequence[Any] | None = evaluate(body, inputs, rule)
        else:
            outputs = rule(eqn, inputs)
        if outputs is None:
            outputs = run_equation(eqn, inputs)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom, values) for atom in jaxpr.outvars]


def flat_program(function: Callable[..., Any], *arguments: Any) -> core.ClosedJaxpr:
    """Traces a function of arrays; the equations hold no plain calls.

    Args:
        function: takes and returns pytrees.
        arguments: arrays, tracers or shapes; their leaves, in order, become the
            program's inputs.
    """
    program = jax.make_jaxpr(function)(*arguments)
    leaves = jax.tree.leaves(arguments)
    return jax.make_jaxpr(lambda *args: evaluate(program, args, lambda *_: None))(
        *leaves
    )


def largest_value(program: core.ClosedJaxpr, inputs: Sequence[int]) -> int:
    """Bytes of the largest array that some of the program's inputs decide, or are."""
    jaxpr = program.jaxpr
    decided = {jaxpr.invars[i] for i in inputs}
    for eqn in jaxpr.eqns:
        variables = [a for a in eqn.invars if not isinstance(a, core.Literal)]
        if any(var in decided for var in variables):
            decided.update(eqn.outvars)
    return max(var.aval.size * var.aval.dtype.itemsize for var in decided)


def rewritten(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """The same function with `rule` in place of some of its equations.

    The result can be transformed and compiled like any other; derivatives are those of
    the new equations.
    """

    def run(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = evaluate(program, jax.tree.leaves(arguments), rule)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run
