"""What reports say of clients: accuracies, shards, lost uploads."""

import contextlib

import pytest

from experiments.reports import clients, figures
from experiments.reports.averages import cells
from tests.experiments.reports.made_up import row, table


def described(
    counts=((3, 1), (0, 2)), partition="iid", dataset="blobs", names=None, **settings
):
    """A run of config.json."""
    counts = [list(client) for client in counts]
    shards = {
        "sizes": {"min": 2, "median": 3.0, "max": 4},
        "classes": {"min": 1, "median": 1.5, "max": 2},
        "class_counts": counts,
        "class_names": names,
    }
    spec = {"partition": {"name": partition, **settings}, "clients": 2}
    spec["dataset"] = {"name": dataset}
    return {"spec": spec, "shards": shards}


def config(*args, **settings):
    return {"runs": {"one": described(*args, **settings)}}


NOTHING = {"runs": {"one": {"shards": None}, "older": {}}}


def text(rows, about):
    return "\n\n".join(clients.section(cells(rows), about))


def test_accuracies_and_shards_are_told_with_their_mark():
    rows = [
        row("fl", 2, seed, client_accuracy_mean=0.9, client_accuracy_worst_tenth=worst)
        for seed, worst in enumerate((0.5, 0.7))
    ]
    told = text(rows, config(partition="dirichlet", alpha=0.3, size_skew=0.0))
    (line,) = table(told)
    assert (line["arm"], line["mean over clients"]) == ("FL", "0.900 ± 0.000")
    assert line["worst tenth"] == "0.600 ± 0.141"
    assert "| dirichlet, alpha 0.3, 2 clients | 2, 3, 4 | 1, 1.5, 2 |" in told
    assert "is covered by epsilon" in told and "not for publication" in told
    assert f"({clients.FIGURE})" in told


def test_arms_with_dp_say_what_they_leave_out():
    told = text([row("fl_dp")], NOTHING)
    assert "arms with DP leave them out" in told and "--client_statistics" in told
    assert "|" not in told


def test_pooled_data_have_no_clients():
    assert clients.section(cells([row("centralized")]), NOTHING) == []


@pytest.mark.parametrize("count", [10, 12])
def test_the_figure_shows_what_is_listed(count, tmp_path):
    path = tmp_path / "shards.png"
    assert not clients.draw(path, NOTHING) and not path.exists()
    assert clients.draw(path, config([range(count)] * 3))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_data_sets_and_partitions_stand_apart(tmp_path):
    both = {
        "runs": {
            "one": described(dataset="digits"),
            "two": described(dataset="tumours", names=["benign", "malignant"]),
            "again": described(dataset="tumours"),
        }
    }
    titles = ["digits, iid, 2 clients", "tumours, iid, 2 clients"]
    assert list(clients.shards(both)) == titles
    assert clients.draw(tmp_path / "shards.png", both)


def test_named_clients_and_classes_stand_in_the_figure(tmp_path, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def drawn(*args, **options):
        with figures.drawn(*args, **options) as (figure, axes):
            yield figure, axes
            ticks = [label.get_text() for label in axes[0].get_xticklabels()]
            seen.append((ticks, axes[0].get_legend_handles_labels()[1]))

    monkeypatch.setattr(clients, "drawn", drawn)
    about = config(names=["benign", "malignant"])
    about["runs"]["one"]["shards"]["client_names"] = ["north", "south"]
    assert clients.draw(tmp_path / "shards.png", about)
    assert seen == [(["north", "south"], ["benign", "malignant"])]


def test_different_shards_under_the_same_words_have_their_runs_names():
    """Two directories, each with a file of the same name."""
    same = described(dataset="csv:a.csv")
    other = described([(9, 9), (1, 1)], dataset="csv:a.csv")
    both = {"runs": {"one/fl-2-iid-0": same, "one/fl_he-2-iid-0": same}}
    assert list(clients.shards(both)) == ["iid, 2 clients"]
    both["runs"]["two/fl-2-iid-0"] = other
    assert list(clients.shards(both).items()) == [
        ("iid, 2 clients, one/fl-2-iid-0", same["shards"]),
        ("iid, 2 clients, two/fl-2-iid-0", other["shards"]),
    ]


def test_lost_uploads_and_void_rounds_are_told():
    assert clients.losses([row("fl"), row("fl", lost_uploads=0, void_rounds=0)]) == []
    lost = row("fl", lost_uploads=7, void_rounds=2, rounds=20)
    (line,) = table("\n\n".join(clients.losses([lost])))
    assert (line["lost uploads"], line["void rounds"]) == ("7", "2 of 20")
