"""A bar on terminals, and a line every few seconds elsewhere."""

import io

import rich.console

from experiments.progress import progress


def shown(seconds, rows, total=8, **options):
    """The output of rounds that end so many seconds after the beginning."""
    console = rich.console.Console(file=io.StringIO(), width=120, **options)
    times = iter(seconds)
    with progress(total, console, lambda: next(times)) as advance:
        advance("fl-4-iid-0", None)
        for row in rows:
            advance("fl-4-iid-0", row)
    return console.file.getvalue()


def row(number, accuracy=None, epsilon=None):
    return {"round": number, "accuracy": accuracy, "epsilon": epsilon}


def test_redirected_output_has_a_line_at_once_and_then_every_ten_seconds():
    rows = [row(1, 0.5), row(2), row(3), row(4, 0.75), row(5)]
    lines = shown([100, 105, 109, 112, 121], rows).splitlines()
    assert lines == [
        "fl-4-iid-0: round 1, accuracy 0.5000, 1 of 8 rounds in all",
        # 3 rounds took 12 s since the first, so that the other 4 take 16 s.
        "fl-4-iid-0: round 4, accuracy 0.7500, 4 of 8 rounds in all, 16 s left",
    ]


def test_epsilon_so_far_and_long_times_are_told():
    rows = [row(1, epsilon=0.25), row(2, epsilon=0.5), row(3, epsilon=0.75)]
    lines = shown([0, 600, 7200], rows, total=100).splitlines()
    assert (
        lines[0] == "fl-4-iid-0: round 1, epsilon so far 0.250, 1 of 100 rounds in all"
    )
    assert lines[1].endswith("2 of 100 rounds in all, 16.3 h left")
    assert "epsilon so far 0.750" in lines[2]
    lines = shown([0, 20], rows[:2], total=20).splitlines()
    assert lines[1].endswith(", 6 min left")


def test_a_terminal_has_a_bar():
    text = shown([], [row(1), row(2)], total=2, force_terminal=True)
    assert "100%" in text and "rounds in all" not in text
