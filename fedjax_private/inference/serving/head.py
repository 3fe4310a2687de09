"""Heads for split serving: a client's own last layer, on features from a server.

Disabato, Falcetta, Mongelluzzo, and Roveri, "A Privacy-Preserving Distributed
Architecture for Deep-Learning-as-a-Service", IJCNN 2020: the server evaluates the
costly first layers on ciphertext, the client the last ones in clear. The head can have
classes of the client's own. It is fitted on decrypted features, and neither the head
nor the labels ever leave the client.

Formal guarantees: the server's are those of `service`, with features in the place of
scores. Features reveal more of the model to a client than scores do: it can fit the
layers after them itself, and has fewer to extract.
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
        split: name of the layer whose outputs are the features.
        weights: float64 (features, classes).
        bias: float64 (classes,).

    Raises:
        ValueError: on construction, for other shapes or entries that are not finite.
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
        """Writes an npz file that `load` reads."""
        with path.open("wb") as file:
            np.savez(file, split=self.split, weights=self.weights, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> "Head":
        """The head in a file that `save` wrote.

        Raises:
            ValueError: if there is no such file, or it holds no head.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                return cls(
                    str(archive["split"]),
                    archive["weights"].astype(np.float64),
                    archive["bias"].astype(np.float64),
                )
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} holds no head ({error}): give a file that `Head.save` wrote."
            ) from error


def fit(
    features: Floats,
    labels: npt.NDArray[np.integer],
    classes: int,
    *,
    split: str,
    penalty: float = 1e-3,
) -> Head:
    """Returns a head fitted by multinomial logistic regression (L-BFGS).

    Features are standardised for the fit; the head takes them unstandardised.

    Args:
        features: (N, F), decrypted.
        labels: (N,), in 0 .. classes - 1.
        classes: number of classes.
        split: name of the layer whose outputs are the features.
        penalty: half of this times the squared weights is added to the mean loss.

    Raises:
        ValueError: if there are no examples, features are not finite, or labels are out
            of range.
    """
    count, width = features.shape
    if not count or labels.shape != (count,):
        raise ValueError(
            f"labels must be ({count},), one for each example, and not empty; got "
            f"{labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("features must be finite: the server's answer is unusable.")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}.")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    inputs, targets = (features - mean) / scale, np.eye(classes)[labels]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, bias = _unstacked(flat, width)
        logits = inputs @ weights + bias
        logs = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
        slope = (np.exp(logs) - targets) / count
        value = -np.sum(targets * logs) / count + penalty / 2 * np.sum(weights**2)
        gradient = np.vstack((inputs.T @ slope + penalty * weights, slope.sum(axis=0)))
        return float(value), gradient.ravel()

    optimum = scipy.optimize.minimize(
        loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B"
    )
    weights, bias = _unstacked(optimum.x, width)
    weights = weights / scale[:, None]
    return Head(split, weights, bias - mean @ weights)


def _unstacked(flat: Floats, width: int) -> tuple[Floats, Floats]:
    stacked = flat.reshape(width + 1, -1)
    return stacked[:width], stacked[width]
