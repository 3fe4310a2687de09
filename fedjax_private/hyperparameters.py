"""Numbers of training that depend on data, model, arm and epsilon."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """What a run trains with, once tuned values and given ones are put together.

    Attributes:
        rounds: rounds of training.
        learning_rate: of the clients; with local noise, of a single client; with shared
            noise, of the server's steps.
        momentum: likewise.
        evaluate_every: rounds between evaluations.
        activation: of the model.
        augmentations: shifted copies of an image that its loss averages over.
        local_epochs: epochs a round; None where `local_steps` counts.
        local_steps: steps a round; None where `local_epochs` counts.
        batch_size: examples a step; None where steps are noised.
        server_optimizer: name of the server's optimiser; None without a server, and
            where clients share noise.
        server_learning_rate: likewise.
        clip_norm: None where no gradient is clipped.
        sampling_probability: None where no record is sampled.
        averaging: decay of the averaged model; None but where clients share noise.
        signal_bound: the largest entry of the mean clipped gradient over the clip norm;
            exact sums have room for it, and noise. None but where clients share noise.
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
        """Noisy steps a round, where steps are noised."""
        assert self.local_steps is not None
        return self.local_steps
