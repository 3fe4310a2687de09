"""Which holders a simulation lets vanish, and when."""

import numpy as np

from fedjax_private.encryption.parties.attendance import (
    ALWAYS,
    NOBODY,
    Attendance,
    DropOut,
)


def test_holders_answer_so_many_messages_and_then_no_more():
    attendance = Attendance({0: 0, 5: 2})
    assert [attendance.answers(0) for _ in range(2)] == [False, False]
    assert [attendance.answers(5) for _ in range(4)] == [True, True, False, False]
    assert all(attendance.answers(9) for _ in range(5))


def test_draws_repeat_with_the_seed_and_differ_between_rounds():
    drawn = DropOut(0.4, 3)
    rounds = [drawn.answers(number, range(40)) for number in range(3)]
    assert rounds == [DropOut(0.4, 3).answers(number, range(40)) for number in range(3)]
    assert rounds[0] != rounds[1] != rounds[2]
    assert DropOut(0.4, 4).answers(0, range(40)) != rounds[0]
    assert list(rounds[0]) == list(range(40))


def test_every_message_is_the_last_but_one_with_that_probability():
    answers = DropOut(0.25, 1).answers(0, range(100_000))
    counts = np.bincount(list(answers.values()))
    for before in range(4):
        expected = 0.25 * 0.75**before
        assert abs(counts[before] / 100_000 - expected) < 0.01


def test_without_drop_outs_all_holders_answer():
    assert NOBODY.answers(7, range(3)) == dict.fromkeys(range(3), ALWAYS)
