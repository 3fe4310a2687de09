"""Reads jaxprs: one reader that runs, rewrites and analyses a function.

JAX traces a function into a jaxpr, a list of equations over primitives, whatever
library the function's layers come from. `evaluate` reads one. Its values are arrays or
tracers (to run or rewrite a function), or objects of the caller's (to analyse it).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.extend import core

# (equation, values of its inputs) -> values of its outputs; None treats the equation as
# usual: calls are read equation by equation, everything else is run.
Rule: TypeAlias = Callable[[core.JaxprEqn, Sequence[Any]], Sequence[Any] | None]

# Calls that mean their body and nothing more. Custom derivatives and rematerialisation
# mean more wherever a derivative may be taken.
_PLAIN_CALLS = frozenset({"pjit", "jit", "closed_call", "core_call"})
_CALLS = _PLAIN_CALLS | {
    "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "remat",
    "checkpoint", "remat2",
}  # fmt: skip


def run_equation(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """Returns the outputs of one equation."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Older JAX releases give functions apart from the other parameters.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = eqn.primitive.bind(*functions, *inputs, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def called(eqn: core.JaxprEqn, *, derivatives: bool = True) -> core.ClosedJaxpr | None:
    """Returns the program that an equation calls, or None if it is no call.

    Args:
        eqn: the equation.
        derivatives: False also follows calls whose body is right for values only:
            custom derivatives and rematerialisation.
    """
    if eqn.primitive.name not in (_PLAIN_CALLS if derivatives else _CALLS):
        return None
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    body = next(eqn.params[name] for name in names if name in eqn.params)
    return body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())


def value_of(atom: Any, values: Mapping[Any, Any]) -> Any:
    """Returns the value of a literal, or of a variable in `values`."""
    return atom.val if isinstance(atom, core.Literal) else values[atom]


def evaluate_equations(
    equations: Iterable[core.JaxprEqn], values: dict[Any, Any], rule: Rule | None = None
) -> None:
    """Adds the outputs of equations, in order, to `values`: variable -> value.

    Args:
        equations: each reads literals, what `values` holds, and earlier outputs.
        values: is changed.
        rule: what to do in place of running some equations.
    """
    for eqn in equations:
        inputs = [value_of(atom, values) for atom in eqn.invars]
        outputs = None if rule is None else rule(eqn, inputs)
        if outputs is None:
            body = called(eqn)
            outputs = (
                run_equation(eqn, inputs)
                if body is None
                else evaluate(body, inputs, rule)
            )
        values.update(zip(eqn.outvars, outputs, strict=True))


def evaluate(
    program: core.ClosedJaxpr, arguments: Sequence[Any], rule: Rule | None = None
) -> list[Any]:
    """Returns a program's outputs, with `rule` in place of some equations.

    Args:
        program: its constants and literals stand for themselves, also where the
            arguments are objects of the caller's.
        arguments: one value for each of the program's inputs.
        rule: see `Rule`.
    """
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    evaluate_equations(jaxpr.eqns, values, rule)
    return [value_of(atom, values) for atom in jaxpr.outvars]


def flat_program(function: Callable[..., Any], *arguments: Any) -> core.ClosedJaxpr:
    """Traces a function of arrays into a program without plain calls.

    Args:
        function: takes and returns pytrees.
        arguments: arrays, tracers or shapes; their leaves, in order, become the
            program's inputs.
    """
    program = jax.make_jaxpr(function)(*arguments)
    leaves = jax.tree.leaves(arguments)
    return jax.make_jaxpr(lambda *args: evaluate(program, args))(*leaves)


def rewritten(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """Returns the same function with `rule` in place of some of its equations.

    The result can be transformed and compiled like any other; derivatives are those of
    the new equations.
    """

    def run(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = evaluate(program, jax.tree.leaves(arguments), rule)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run


def depends_on(function: Callable[..., Any], *arguments: Any) -> bool:
    """Returns whether any output of a function depends on the values of its arguments.

    Args:
        function: takes and returns pytrees; its arguments' shapes do not count.
        arguments: arrays, tracers or shapes.
    """
    program = flat_program(function, *arguments)
    depends = object()

    def rule(eqn: core.JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        given = any(value is depends for value in values)
        return [depends if given else None] * len(eqn.outvars)

    outputs = evaluate(program, [depends] * len(program.jaxpr.invars), rule)
    return any(output is depends for output in outputs)


def largest_value(program: core.ClosedJaxpr, inputs: Sequence[int]) -> int:
    """Returns the bytes of the largest array that depends on some inputs.

    Args:
        program: a flat program.
        inputs: positions of the inputs in question, which count themselves.
    """
    depends = object()
    variables = [program.jaxpr.invars[i] for i in inputs]

    def rule(eqn: core.JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        if not any(value is depends for value in values):
            return [None] * len(eqn.outvars)
        variables.extend(eqn.outvars)
        return [depends] * len(eqn.outvars)

    arguments = [
        depends if i in inputs else None for i in range(len(program.jaxpr.invars))
    ]
    evaluate(program, arguments, rule)
    avals: list[Any] = [variable.aval for variable in variables]
    return max(aval.size * aval.dtype.itemsize for aval in avals)
