"""`Hyperparameters`: rounds, learning rate, momentum, clip norm and so on."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The hyper-parameters of a run: tuned values, and given ones in their place.

    Attributes:
        rounds: rounds of training.
        learning_rate: of the clients; with shared noise, of the server's steps.
        momentum: likewise.
        evaluate_every: rounds between evaluations.
        activation: of the model.
        augmentations: shifted copies of an image that its loss averages over.
        local_epochs: epochs a round; None where `local_steps` is given.
        local_steps: steps a round; None where `local_epochs` is given.
        batch_size: examples a step; None where steps are noised.
        server_optimizer: name of the server's optimiser; None without a server, and
            where clients share noise.
        server_learning_rate: likewise.
        clip_norm: None without clipping.
        sampling_probability: None without sampling.
        averaging: decay of the averaged model; None unless clients share noise.
        signal_bound: the largest entry of the mean clipped gradient over the clip norm,
            for which exact sums have room, besides noise; None unless clients share
            noise.
    """

    rounds: int
    learning_rate: float
    momentum: float
    evaluate_every: int
    activation: str = "tanh"
    augmentations: int = 1
    local_epochs: int | None = None
    local_steps: int | None = None
    batch_size: int | None = None
    server_optimizer: str | None = None
    server_learning_rate: float | None = None
    clip_norm: float | None = None
    sampling_probability: float | None = None
    averaging: float | None = None
    signal_bound: float | None = None

    @property
    def noisy_steps(self) -> int:
        """Noisy steps of a client in a round, where steps are noised."""
        assert self.local_steps is not None
        return self.local_steps

    def applicable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those of some values that a run with these ones has.

        Args:
            values: by field; what is None here is none of the run's, but local steps,
                which may be given in place of epochs.
        """
        return {
            name: value
            for name, value in values.items()
            if getattr(self, name) is not None or name == "local_steps"
        }

    def replaced(self, values: Mapping[str, Any]) -> "Hyperparameters":
        """Returns these, with the applicable ones of some values in their place."""
        changes = self.applicable(values)
        if "local_steps" in changes:
            changes["local_epochs"] = None
        return dataclasses.replace(self, **changes)
