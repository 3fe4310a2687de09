import pytest

from fedjax_private.inference.serving.sessions import Limits


@pytest.mark.parametrize("name", ["sessions", "idle_seconds", "at_once"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_limits_are_positive_and_finite(name, value):
    what = "(positive and finite|a whole number)"
    with pytest.raises(ValueError, match=f"{name} must be {what}"):
        Limits(**{name: value})
