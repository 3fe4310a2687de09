import numpy as np
import pytest

from fedjax_private.inference.serving.head import Head, fit


def clusters(count, seed=0, shift=0.0):
    """Three classes in five features, one of them constant and one on a large scale."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    features = random.normal(size=(count, 5))
    features[:, 0] += 4 * labels
    features[:, 1] = 1e4 * (features[:, 1] - 2 * labels) + shift
    features[:, 4] = 7.0
    return features, labels


def test_a_fitted_head_separates_new_examples():
    features, labels = clusters(300)
    head = fit(features, labels, 3, split="pool")
    fresh, truth = clusters(300, seed=1)
    assert np.mean(head(fresh).argmax(axis=1) == truth) > 0.95
    assert head.split == "pool"


def test_the_fit_is_a_stationary_point_of_the_penalised_loss():
    features, labels = clusters(200)
    features = features / features.std(axis=0).clip(1)  # nothing left to standardise
    features -= features.mean(axis=0)
    features /= np.where(features.std(axis=0) > 1e-9, features.std(axis=0), 1)
    head = fit(features, labels, 3, split="s", penalty=0.1)
    logits = head(features)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = features.T @ (shares - np.eye(3)[labels]) / 200 + 0.1 * head.weights
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_scores_do_not_depend_on_the_features_units():
    features, labels = clusters(100)
    moved = features * [1, 1e-3, 1e3, 2, 5] + [0, 1e3, -5, 0, 1]
    scores = fit(features, labels, 3, split="s")(features)
    np.testing.assert_allclose(
        fit(moved, labels, 3, split="s")(moved), scores, atol=0.1
    )


def test_a_head_is_read_as_it_was_written(tmp_path):
    head = Head("conv", np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0]))
    head.save(tmp_path / "head.npz")
    again = Head.load(tmp_path / "head.npz")
    assert again.split == "conv"
    np.testing.assert_array_equal(again.weights, head.weights)
    np.testing.assert_array_equal(again.bias, head.bias)


def test_what_is_no_head_is_refused(tmp_path):
    path = tmp_path / "head.npz"
    for write in (
        lambda file: file.write(b"nothing"),
        lambda file: file.write(b""),
        lambda file: np.savez(file, weights=np.zeros((2, 2))),
        lambda file: np.savez(file, split="s", weights=np.zeros(2), bias=np.zeros(2)),
        lambda file: np.savez(
            file, split="s", weights=np.full((2, 2), np.nan), bias=np.zeros(2)
        ),
        lambda file: np.savez(file, split=np.array([{}]), weights=1, bias=1),
    ):
        with path.open("wb") as file:
            write(file)
        with pytest.raises(ValueError, match="holds no head"):
            Head.load(path)
    with pytest.raises(ValueError, match="holds no head"):
        Head.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("features", "labels", "match"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "labels must be"),
        (np.zeros((3, 2)), np.zeros(2, int), "labels must be"),
        (np.full((2, 2), np.inf), np.zeros(2, int), "finite"),
        (np.zeros((2, 2)), np.array([0, 3]), "labels must lie in 0..2"),
        (np.zeros((2, 2)), np.array([-1, 0]), "labels must lie in 0..2"),
    ],
)
def test_unusable_examples_are_refused(features, labels, match):
    with pytest.raises(ValueError, match=match):
        fit(features, labels, 3, split="s")
