"""Searches hyper-parameters one after another, from the usual values on."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from fedjax_private.hyperparameters import Hyperparameters

# Field of `Hyperparameters` -> value.
Values = Mapping[str, Any]
# Larger is better; None where training failed.
Score = tuple[float, ...]

COARSE, FINE = (1 / 16, 1 / 4, 4.0, 16.0), (1 / 2, 2.0)
CLIP = (1 / 10, 10.0)
ROUNDS = (1 / 2, 2.0)
MOMENTUM = (0.0, 0.9)
BATCHES = (1 / 2, 2.0)


def search(
    usual: Hyperparameters,
    score: Callable[[Values], Score | None],
    *,
    fixed: Collection[str] = (),
    trials: int,
) -> None:
    """Scores the usual values, then changes of one hyper-parameter after another.

    Each step keeps the best values so far: learning rates far apart, then near ones;
    clip norms and rounds where steps are noised, momentum and batches elsewhere; and
    learning rates near the best once more.

    Args:
        usual: where it starts; what is None there is not searched.
        score: of values that differ from the usual ones; None where training failed.
        fixed: hyper-parameters that keep their values.
        trials: the most scores that are taken.
    """
    best, best_score = usual, score({})
    seen = {usual}
    for changes in _steps(usual):
        for change in list(changes(best)):
            values = dataclasses.replace(best, **change)
            if values in seen or any(_differ(usual, values, name) for name in fixed):
                continue
            if len(seen) == trials:
                return
            seen.add(values)
            names = [f.name for f in dataclasses.fields(values)]
            differing = [name for name in names if _differ(usual, values, name)]
            found = score({name: getattr(values, name) for name in differing})
            if found is not None and (best_score is None or found > best_score):
                best, best_score = values, found


def _differ(one: Hyperparameters, other: Hyperparameters, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


Step = Callable[[Hyperparameters], Iterator[Values]]


def _steps(usual: Hyperparameters) -> list[Step]:
    """What is changed, in order; each step begins at the best values so far."""

    def rates(factors: Collection[float]) -> Step:
        def changes(best: Hyperparameters) -> Iterator[Values]:
            for factor in factors:
                yield {"learning_rate": _rounded(best.learning_rate * factor)}

        return changes

    def clip_norms(best: Hyperparameters) -> Iterator[Values]:
        # A step's length is their product, where most gradients are clipped.
        for factor in CLIP:
            assert best.clip_norm is not None
            yield {
                "clip_norm": _rounded(best.clip_norm * factor),
                "learning_rate": _rounded(best.learning_rate / factor),
            }

    def rounds(best: Hyperparameters) -> Iterator[Values]:
        for factor in ROUNDS:
            yield {"rounds": max(1, round(best.rounds * factor))}

    def momenta(best: Hyperparameters) -> Iterator[Values]:
        for momentum in MOMENTUM:
            yield {"momentum": momentum}

    def batches(best: Hyperparameters) -> Iterator[Values]:
        for factor in BATCHES:
            assert best.batch_size is not None
            yield {"batch_size": max(1, round(best.batch_size * factor))}

    noised = usual.clip_norm is not None
    others: list[Step] = [clip_norms, rounds] if noised else [momenta]
    if usual.batch_size is not None:
        others.append(batches)
    return [rates(COARSE), rates(FINE), *others, rates(FINE)]


def _rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
