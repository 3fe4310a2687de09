"""Prices a run of DP-SGD, or calibrates its noise, from the command line.

    python -m fedjax_private.privacy.accounting --noise_multiplier=1.3 \\
        --sampling_probability=250/60000 --steps=720 --delta=1e-5
"""

import argparse
import fractions
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fedjax_private.privacy.accounting.accountant import RdpAccountant, Spent
from fedjax_private.privacy.accounting.calibration import calibrate_noise_multiplier
from fedjax_private.privacy.accounting.events import (
    Event,
    Gaussian,
    Neighbors,
    Poisson,
    Repeated,
)


class _Parser(argparse.ArgumentParser):
    """Argument errors as one sentence, with exit status 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"{self.prog}: {message.rstrip('.')}.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if (given.noise_multiplier is None) == (given.target_epsilon is None):
        parser.error("give either --noise_multiplier or --target_epsilon")
    if given.steps < 1:
        parser.error(f"--steps must be at least 1, got {given.steps}")
    try:
        pyplot = None if given.plot is None else _pyplot()
    except ImportError as error:
        parser.error(f"--plot needs matplotlib ({error}): pip install matplotlib")
    try:
        _run(given, pyplot)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _run(given: argparse.Namespace, pyplot: Any) -> None:
    neighbors = Neighbors(given.neighbors)
    sigma: float = given.noise_multiplier

    def run(noise_multiplier: float, steps: int) -> Event:
        step = Poisson(given.sampling_probability, Gaussian(noise_multiplier))
        return Repeated(step, steps)

    def spent(steps: int) -> Spent:
        books = RdpAccountant(neighbors=neighbors)
        return books.compose(run(sigma, steps)).spent(given.delta)

    if given.noise_multiplier is None:
        sigma = calibrate_noise_multiplier(
            lambda sigma: run(sigma, given.steps),
            given.target_epsilon,
            given.delta,
            neighbors,
        )
        print(f"noise_multiplier: {sigma:.6g}")
    total = spent(given.steps)
    edge = " (at the edge of the grid, beyond which less may be provable)"
    print(f"epsilon: {_upwards(total.epsilon)}")
    print(f"order: {total.order:.4g}{edge if total.at_edge else ''}")
    print(f"delta: {given.delta:g}")
    print(f"neighbors: {neighbors.value}")
    if pyplot is not None:
        _plot(pyplot, given, sigma, lambda steps: spent(steps).epsilon)


def _plot(
    pyplot: Any,
    given: argparse.Namespace,
    sigma: float,
    epsilon: Callable[[int], float],
) -> None:
    points = min(given.steps, 200)
    steps = sorted({round(given.steps * (i + 1) / points) for i in range(points)})
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(steps, [epsilon(count) for count in steps])
    axes.set(
        xlabel="steps",
        ylabel=f"epsilon at delta = {given.delta:g}",
        title=f"noise multiplier {sigma:.4g}, q = {given.sampling_probability:.4g}",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    figure.savefig(given.plot, dpi=150)
    pyplot.close(figure)
    print(f"plot: {given.plot}")


def _upwards(value: float) -> str:
    """Four decimals, rounded up: a printed guarantee must not be below the real one."""
    if value == float("inf"):
        return "inf"
    return f"{-(-value * 10**4 // 1) / 10**4:.4f}"


def _ratio(text: str) -> float:
    """A number or a quotient such as 250/60000."""
    try:
        return float(fractions.Fraction(text)) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m fedjax_private.privacy.accounting",
        description="Epsilon of the Poisson-sampled Gaussian mechanism (DP-SGD), by "
        "Rényi differential privacy; or the noise multiplier for a target epsilon.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--noise_multiplier",
        type=_ratio,
        help="noise standard deviation over the clip norm",
    )
    parser.add_argument(
        "--target_epsilon",
        type=_ratio,
        help="find the noise multiplier that spends at most this",
    )
    parser.add_argument(
        "--sampling_probability",
        required=True,
        type=_ratio,
        help="each record's probability per step, such as 250/60000",
    )
    parser.add_argument("--steps", required=True, type=int, help="the number of steps")
    parser.add_argument(
        "--delta", required=True, type=_ratio, help="the delta of (epsilon, delta)"
    )
    parser.add_argument(
        "--neighbors",
        default=Neighbors.ADD_REMOVE.value,
        type=str.lower,
        choices=[relation.value for relation in Neighbors],
        help="the neighbouring relation (default here: add_remove)",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw epsilon over steps into this file"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
