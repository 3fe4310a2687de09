"""Flax models, wrapped as pure functions."""

from fedjax_private._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ACTIVATIONS": "model",
        "MODELS": "model",
        "Model": "model",
        "augmented": "model",
        "build": "model",
        "for_dataset": "model",
        "from_flax": "model",
        "parameter_count": "model",
        "FedAvgCnn": "cnn",
        "ShallowCnn": "cnn",
        "TutorialCnn": "cnn",
        "Mlp": "mlp",
        "PolynomialCnn": "polynomial",
        "POLYNOMIALS": "polynomial",
        "POLYNOMIAL_CNN": "model",
        "pre_activations": "polynomial",
        "SCATTERING_LINEAR": "model",
        "normalized": "scattering",
        "scattered": "scattering",
    },
)
