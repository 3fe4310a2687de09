import dataclasses

import numpy as np
import pytest

from fedjax_private.inference.compiling.canonical import canonical_form
from fedjax_private.inference.planning.errors import (
    Stage,
    StepProfile,
    fresh_std,
    predicted_error,
    profiles_of,
)
from fedjax_private.inference.planning.layouts import PeriodicLayout
from fedjax_private.inference.planning.rings import RingChoice
from fedjax_private.inference.planning.rotations import rotations_of
from tests.inference.networks import CUBIC, multilayer

CHOICE = RingChoice(8192, 31, 30, 5)
PROFILE = StepProfile(0, 1.0, 16, True, True, 1.0, 0.2)
STAGE = Stage(5, 90.0, 5, 2, 30.0)


def error(profile=PROFILE, stage=STAGE, weight_bits=20):
    return predicted_error(CHOICE, [profile], [stage], 60.0, [weight_bits])


def test_profiles_of_batch_packing_count_the_weights_of_a_row():
    program = canonical_form(multilayer((9, 5, 3), CUBIC))
    first, last = profiles_of(program, None)
    assert (first.degree, last.degree) == (3, 0)
    assert (first.terms, last.terms) == (9, 5)
    assert not first.encoded
    assert not first.rotated
    norms = np.linalg.norm(program.steps[0].matrix, axis=1)
    assert first.row_norm == norms.max()


def test_profiles_of_single_packing_count_diagonals_and_blocks():
    program = canonical_form(multilayer((9, 5, 3)))
    rotations = rotations_of(program, PeriodicLayout(16), (9,), 4096)
    first = profiles_of(program, rotations)[0]
    assert first.encoded
    assert first.rotated
    # Rows repeat with a height of 8: two blocks of eight diagonals.
    assert first.terms == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [("row_norm", 8.0), ("terms", 10**6), ("rotated", False), ("typical", 0.0)],
)
def test_each_part_of_a_profile_changes_the_error(name, value):
    changed = error(dataclasses.replace(PROFILE, **{name: value}))
    assert changed != error()
    assert (changed > error()) == (value not in (False, 0.0))


def test_coarser_weights_and_earlier_rescaling_leave_more_error():
    assert error(weight_bits=18) > error()
    assert error(stage=dataclasses.replace(STAGE, sum_limbs=3)) > error()


def test_the_public_key_leaves_more_noise_than_the_secret_one():
    assert fresh_std(8192, public=True) > 50 * fresh_std(8192, public=False)
