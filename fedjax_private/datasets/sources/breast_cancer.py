"""The Wisconsin diagnostic breast cancer table, which scikit-learn brings along.

Street, Wolberg and Mangasarian, "Nuclear feature extraction for breast tumor
diagnosis", 1993: ten measurements of the cell nuclei in an image of a fine needle
aspirate, each as mean, standard error and worst of the nuclei.
"""

import numpy as np

from fedjax_private.choices import Settings
from fedjax_private.datasets.arrays import from_arrays
from fedjax_private.datasets.examples import Dataset, stratified
from fedjax_private.datasets.sources.source import Source

TEST_EXAMPLES = 114  # of 569
SPLIT_SEED = 569

# Low and high of each feature, which become -1 and 1. The table has been public since
# 1995, and its documentation states the smallest and the largest value of each feature;
# these are rounded outwards to two digits. They release nothing here, and stand for the
# plausible ranges that a federation would agree on before it looks at any record.
_MEANS = (
    (5, 30),  # radius
    (5, 40),  # texture
    (40, 200),  # perimeter
    (100, 2600),  # area
    (0.05, 0.17),  # smoothness
    (0, 0.35),  # compactness
    (0, 0.45),  # concavity
    (0, 0.21),  # concave points
    (0.1, 0.31),  # symmetry
    (0.04, 0.1),  # fractal dimension
)
_ERRORS = (
    (0, 3),
    (0, 5),
    (0, 22),
    (0, 550),
    (0, 0.032),
    (0, 0.14),
    (0, 0.4),
    (0, 0.054),
    (0, 0.08),
    (0, 0.03),
)
_WORST = (
    (5, 37),
    (10, 50),
    (50, 260),
    (100, 4300),
    (0.07, 0.23),
    (0, 1.1),
    (0, 1.3),
    (0, 0.3),
    (0.1, 0.67),
    (0.05, 0.21),
)
RANGES = np.array([*_MEANS, *_ERRORS, *_WORST])  # (30, 2)


def _load(name: str, settings: Settings) -> Dataset:
    # scikit-learn takes a second to import.
    from sklearn.datasets import load_breast_cancer  # type: ignore[import-untyped]

    table = load_breast_cancer()
    low, high = RANGES.T
    inputs = 2 * (table.data - low) / (high - low) - 1
    labels = table.target_names[table.target]
    # The legacy generator's stream is frozen for good, that of default_rng is not.
    rng = np.random.RandomState(SPLIT_SEED)
    test = stratified(table.target, TEST_EXAMPLES, rng)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return from_arrays(name, inputs[train], labels[train], inputs[test], labels[test])


BREAST_CANCER = Source(
    "breast_cancer",
    "569 records of 30 features, benign or malignant, from an installed package",
    _load,
    table=True,
)
