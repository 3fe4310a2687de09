"""Split serving: a client's own last layer, on features that a server returned.

Disabato, Falcetta, Mongelluzzo, and Roveri, "A Privacy-Preserving Distributed
Architecture for Deep-Learning-as-a-Service", IJCNN 2020: the server evaluates the
costly first layers on ciphertext, the client the last ones in clear. The client's head
can be for classes of its own; it is fitted on decrypted features, and neither the head
nor the labels ever leave the client.

Formal guarantees: the server's are those of `service`, with features in the place of
scores. Features tell a client more of the model than scores do: it can fit what follows
them, and needs to extract less.
"""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Head:
    """A linear layer from features to scores.

    Attributes:
        split: the layer whose outputs it takes.
        weights: float64 (features, classes).
        bias: float64 (classes,).

    Raises:
        ValueError: other shapes, or entries that are not finite.
    """

    split: str
    weights: Floats
    bias: Floats

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise ValueError(
                "a head has weights (features, classes) and a bias (classes,), got "
                f"{self.weights.shape} and {self.bias.shape}."
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("a head's weights and bias must be finite.")

    def __call__(self, features: Floats) -> Floats:
        """Returns the scores (B, classes) of features (B, features)."""
        scores: Floats = features @ self.weights + self.bias
        return scores

    def save(self, path: Path) -> None:
        """Writes it to an npz file."""
        with path.open("wb") as file:
            np.savez(file, split=self.split, weights=self.weights, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> "Head":
        """Reads it again.

        Raises:
            ValueError: there is no such file, or it holds no head.
        """
        try:
            with np.load(path, allow_pickle=False) as kept:
                return cls(
                    str(kept["split"]),
                    kept["weights"].astype(np.float64),
                    kept["bias"].astype(np.float64),
                )
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} holds no head ({error}): make one with `fit_head`."
            ) from error


def fit(
    features: Floats,
    labels: npt.NDArray[np.integer],
    classes: int,
    *,
    split: str,
    penalty: float = 1e-3,
) -> Head:
    """Fits a multinomial logistic regression (L-BFGS), and returns it.

    Features are standardised for the fit; what is returned takes them as they come.

    Args:
        features: (N, F), decrypted.
        labels: (N,), in 0 .. classes - 1.
        classes: how many there are.
        split: the layer that the features are from.
        penalty: half of it times the squared weights is added to the mean loss.

    Raises:
        ValueError: no examples, features that are not finite, or labels of no class.
    """
    count, width = features.shape
    if not count or labels.shape != (count,):
        raise ValueError(f"{count} features and {labels.shape} labels make no head.")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite: the server's answer is unusable.")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}.")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    inputs, targets = (features - mean) / scale, np.eye(classes)[labels]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, bias = _parts(flat, width)
        logits = inputs @ weights + bias
        logs = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
        slope = (np.exp(logs) - targets) / count
        value = -np.sum(targets * logs) / count + penalty / 2 * np.sum(weights**2)
        gradient = np.vstack((inputs.T @ slope + penalty * weights, slope.sum(axis=0)))
        return float(value), gradient.ravel()

    found = scipy.optimize.minimize(
        loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B"
    )
    weights, bias = _parts(found.x, width)
    weights = weights / scale[:, None]
    return Head(split, weights, bias - mean @ weights)


def _parts(flat: Floats, width: int) -> tuple[Floats, Floats]:
    stacked = flat.reshape(width + 1, -1)
    return stacked[:width], stacked[width]
