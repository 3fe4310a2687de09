"""The report of a comparison of arms."""

import csv

import pytest
import rich.console

from experiments.reports import comparison, paper
from experiments.reports.metrics import METRICS
from fedjax_private import runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.datasets import load
from tests.experiments.reports.made_up import row, section, table

ROWS = [
    row("fl", 4, 0, 0.90),
    row("fl", 4, 1, 0.94),
    row("centralized", 4, 0, 0.95),
    row("fl_he", 4, 0, 0.91),
    row("private_ai", 8, 0, None),
]


@pytest.fixture(scope="module")
def configured():
    """Settings of specs -> config.json of runs on the digits."""

    def made(*several):
        usual = {"model": "linear", "noise_multiplier": 2.0}
        asked = [runs.Spec(**usual | settings).used_only() for settings in several]
        ready = [runs.prepare(spec, load("mnist_5k")) for spec in asked]
        return runs.config("sweep", ready)

    return made


@pytest.fixture(scope="module")
def config(configured):
    arms = ("fl", "fl_dp", "private_ai_local")
    return configured(
        *({"arm": arm} for arm in arms),
        {"arm": "private_ai", "honest_clients": 2},
        {"arm": "private_ai", "clients": 16, "honest_clients": 2},
    )


def test_files_are_written_and_agree(tmp_path, config):
    comparison.write(tmp_path, ROWS, config, ["Not run: something."])
    lines = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert {(line["arm"], line["seeds"]) for line in lines} == {
        ("centralized", "1"),
        ("fl", "2"),
        ("fl_he", "1"),
        ("private_ai", "1"),
    }
    fl = next(line for line in lines if line["arm"] == "fl")
    assert float(fl["accuracy_mean"]) == pytest.approx(0.92)
    assert fl["epsilon_mean"] == fl["encryption"] == ""
    text = (tmp_path / "report.md").read_text()
    assert "0.920 ± 0.028" in text
    assert "0.824 ± 0.02 (T3), 0.924 (T4)" in text
    assert "**Not run: something.**" in text
    assert "not part of epsilon" in text
    assert "diverged" in text
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize(("insider", "shown"), [(3.4, "3.4000"), (float("inf"), "inf")])
def test_both_epsilons_and_both_adversaries_are_told(insider, shown, config):
    one = row("private_ai", 4, 0, 0.9, epsilon_insider=insider)
    text = section(comparison.markdown([one], config, []), "Privacy")
    (line,) = table(text)
    assert (line["epsilon, outsiders"], line["epsilon, insiders"]) == ("2.9000", shown)
    for words in (
        "- PRIVATE-AI (FL + DP + HE), outsiders, 4 clients: the world and the server",
        "insiders, 4 clients: the server together with all clients but 2 of every 4",
        "insiders, 16 clients: the server together with all clients but 2 of every 16",
        "one record, added to or removed from one client's shard",
    ):
        assert words in text
    assert "FL + DP: " not in text  # another arm's


def test_local_noise_has_one_adversary(config):
    text = comparison.markdown([row("private_ai_local")], config, [])
    assert "- PRIVATE-AI, local noise: the world, the server and all other" in text


@pytest.mark.parametrize(
    ("values", "priced"),
    [
        ({}, "from the RDP of the Poisson-subsampled Gaussian."),
        ({"encryption": "exact"}, "sum of discrete Gaussian shares"),
        ({"mechanism": "my:laplace"}, "what the mechanism my:laplace declares"),
    ],
)
def test_the_divergence_that_was_computed_is_named(values, priced, config):
    one = row("private_ai", **values)
    assert priced in comparison.markdown([one], config, [])


def test_units_and_claims_of_other_algorithms_are_told(config):
    rows = [row("fl_dp", unit="client", algorithm="dp_fedavg", epsilon_claimed=1.25)]
    text = section(comparison.markdown(rows, config, []), "Privacy")
    assert "The unit is one client with all its records." in text
    (line,) = table(text)
    assert (line["algorithm"], line["unit"]) == ("dp_fedavg", "client")
    assert line["the paper's claim"] == "1.2500"
    assert "epsilon, insiders" not in line  # columns that hold nothing are left out


def test_noise_from_a_seed_is_called_a_simulation(config, configured):
    assert "those of a simulation" not in comparison.markdown(ROWS, config, [])
    seeded = configured({"arm": "fl_dp", "noise_seed": 1})
    rows = [row("fl_dp")]
    assert "those of a simulation" in comparison.markdown(rows, seeded, [])


def test_arms_without_dp_or_encryption_have_no_such_section(configured):
    text = comparison.markdown([row("fl")], configured({"arm": "fl"}), [])
    assert "## Privacy" not in text and "## Encryption" not in text
    assert "## Settings" in text


@pytest.mark.needs_openfhe
def test_the_cost_of_encryption_stands_beside_the_same_without(configured):
    scheme = SCHEMES.choose("exact", {"key_holder": "clients"})
    encrypted = configured({"arm": "fl_he", "encryption": scheme})
    rows = [row("fl", seconds_total=1.5), row("fl_he")]
    text = section(comparison.markdown(rows, encrypted, []), "Encryption")
    assert "- FL + HE, 4 clients: BGV" in text and "BASELINE" in text
    (line,) = table(text)
    assert (line["seconds"], line["same without HE"]) == ("2.0", "1.5")
    assert (line["bytes a parameter"], line["encrypt"]) == ("33.0", "1.00")
    assert line["largest error of a sum"] == "1.0e-09"
    void = row("fl_he", max_aggregation_error=None)  # no sum was ever released
    (line,) = table(section(comparison.markdown([void], encrypted, []), "Encryption"))
    assert line["largest error of a sum"] == ""


def test_settings_are_listed_for_every_arm(config):
    text = comparison.markdown(ROWS, config, [])
    head = next(x for x in text.splitlines() if x.startswith("| arm | rounds |"))
    assert "learning rate" in head and "clip norm" in head
    assert "under tb/ are for TensorBoard (`pip install tensorboard`" in text
    assert f"jax {config['versions']['jax']}" in text


def test_a_finished_run_is_one_line():
    line = comparison.line(row("private_ai", 8, 2, 0.91234))
    assert " ".join(line.split()) == (
        "private_ai clients=8 iid seed=2 accuracy 0.9123 epsilon 2.900 "
        "for insiders 3.400 2.0 s"
    )
    lossy = comparison.line(row("fl", lost_uploads=7, void_rounds=2, rounds=20))
    assert "lost uploads 7  void rounds 2 of 20" in lossy
    assert comparison.line(row("fl", 4, 0, None)).endswith("accuracy   2.0 s")


def test_the_table_that_is_printed_names_each_place_once():
    console = rich.console.Console(width=120)
    with console.capture() as captured:
        console.print(comparison.table(ROWS))
    text = captured.get()
    assert text.count("iid") == 2
    assert "0.920 ± 0.028" in text and "0.937 (T5)" in text


def test_the_papers_figures_are_labelled():
    assert paper.cited("mnist_5k", "local", "shards", 32) == "0.520 ± 0.03 (T3)"
    assert paper.cited("mnist_5k", "fl_he", "iid", 5) == "0.937 (T5)"
    assert paper.cited("mnist_5k", "private_ai", "iid", 4) == ""
    assert paper.cited("breast_cancer", "fl", "iid", 4) == ""


def test_a_report_says_where_settings_come_from_and_what_was_searched(configured):
    ready = configured(
        {"arm": "fl_dp"}, {"arm": "centralized_dp", "dataset": "mnist"}, {"arm": "fl"}
    )
    rows = [row(arm, 4, 0, 0.9) for arm in ("fl_dp", "centralized_dp", "fl")]
    text = comparison.markdown(rows, ready, [])
    assert (
        "- FL + DP on mnist_5k: borrowed from mnist_5k/tutorial_cnn at epsilon 2.9 "
        "(searched)."
    ) in text
    assert "- FL on mnist_5k: borrowed from mnist_5k/tutorial_cnn (searched)." in text
    assert "split of the training data of mnist_5k. That search is not part" in text
    untested = configured({"arm": "centralized_dp", "dataset": "mnist"})
    assert "searched on" not in comparison.markdown(rows[1:2], untested, [])


def test_other_data_sets_carry_no_figure_of_the_paper(config):
    def text(**values):
        rows = [row("fl", **values), row("centralized", **values)]
        console = rich.console.Console(width=120)
        with console.capture() as captured:
            console.print(comparison.table(rows))
        return comparison.markdown(rows, config, []), captured.get()

    report, printed = text()
    assert "(T3)" in report and "(T3)" in printed
    for values in ({"dataset": "breast_cancer"}, {"dataset": "my:data"}):
        report, printed = text(**values)
        assert "paper" not in report and "paper" not in printed


def test_what_was_varied_has_columns_everywhere(tmp_path, config):
    rows = [
        row("fl_dp", epsilon_target=epsilon, epsilon=epsilon - 0.01)
        for epsilon in (0.5, 8.0)
    ]
    rows.append(row("fl"))
    comparison.write(tmp_path, rows, config, vary=["epsilon"])
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Test accuracy against target epsilon")
    lines = table(section(text, "Accuracy: IID"))
    assert list(lines[0]) == ["arm, target epsilon", "0.5", "8"]
    assert [line["8"] for line in lines] == ["0.900", "0.900"]  # FL is level
    private = table(section(text, "Privacy"))
    assert [line["target epsilon"] for line in private] == ["0.5", "8.0"]
    assert [line["epsilon, outsiders"] for line in private] == ["0.4900", "7.9900"]
    summary = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert {line["epsilon_target"] for line in summary} == {"0.5", "8.0", ""}
    assert "(T4)" not in text  # the paper varied clients


def test_several_data_sets_are_named_in_every_part(tmp_path, configured):
    about = configured({"arm": "fl", "clients": 2}, {"arm": "fl", "clients": 3})
    about["runs"]["fl-3-iid-0"]["spec"]["dataset"] = {"name": "folder:pets"}
    rows = [row("fl", 2, client_accuracy_mean=0.5)]
    rows.append(row("fl", 3, client_accuracy_mean=0.6, dataset="folder:pets"))
    text = comparison.markdown(rows, about, [])
    assert "## Accuracy: mnist_5k" in text and "## Accuracy: folder:pets" in text
    for part in ("Clients", "Settings"):
        lines = table(section(text, part))
        assert [line["data set"] for line in lines] == ["mnist_5k", "folder:pets"]
    assert "- FL on mnist_5k, FL on folder:pets: borrowed" in text
    console = rich.console.Console(width=120)
    with console.capture() as captured:
        console.print(comparison.table(rows))
    assert "folder:pets" in captured.get()


def test_the_largest_class_and_compiling_are_said(config):
    rows = [row("fl", largest_class=0.61666), row("fl_dp", largest_class=0.61666)]
    text = comparison.markdown(rows, config, [], metric=METRICS["seconds_total"])
    assert "Largest class: 0.617 of the test set." in text
    assert "includes the seconds of compiling" in text
    two = [*rows, row("fl", dataset="folder:pets", largest_class=0.5)]
    assert comparison.baseline(two) == [
        "Largest class: 0.617 of the test set of mnist_5k.",
        "Largest class: 0.500 of the test set of folder:pets.",
    ]
    assert comparison.baseline([row("fl")]) == []
    console = rich.console.Console(width=120)
    with console.capture() as captured:
        console.print(comparison.table(rows))
    assert "Largest class: 0.617" in captured.get()
    assert "compiling" in captured.get()


def test_what_differs_from_the_paper_stands_at_its_figures(config):
    rows = [row("fl"), row("fl", partition="dirichlet", alpha=0.3)]
    text = comparison.markdown(rows, config, [])
    assert "paper's model is a CNN" in text
    assert "here: model linear, partition iid, dirichlet." in text
    console = rich.console.Console(width=400)
    with console.capture() as captured:
        console.print(comparison.table([row("fl")]))
        console.print(comparison.table([row("fl", dataset="csv:a.csv")]))
    printed = " ".join(captured.get().split())
    assert printed.count("its non-IID partition is not described.") == 1
    varied = [row("fl", learning_rate=rate) for rate in (0.1, 0.2)]
    two = [*varied, row("fl", 8, learning_rate=0.1)]  # panels of learning rates
    assert "T3" not in comparison.markdown(two, config, [])


def test_settings_without_effect_are_not_listed(configured):
    about = configured({"arm": "fl", "model": "linear"})
    (run,) = about["runs"].values()
    assert run["hyperparameters"]["activation"] is None
    lines = table(section(comparison.markdown([row("fl")], about, []), "Settings"))
    assert "activation" not in lines[0] and "learning rate" in lines[0]


def test_another_metric_stands_before_accuracy(config):
    rows = [row("fl", clients, seconds_total=clients) for clients in (4, 8)]
    metric = METRICS["seconds_total"]
    text = comparison.markdown(rows, config, [], metric=metric)
    assert text.index("## Seconds of a run: IID") < text.index("## Accuracy: IID")
    (line,) = table(section(text, "Seconds of a run"))
    assert (line["4 clients"], line["8 clients"]) == ("4.0", "8.0")


def test_a_single_run_is_drawn_over_its_rounds(tmp_path, config):
    rounds = [{"round": n, "accuracy": n / 10} for n in (1, 2)]
    comparison.write(tmp_path, [row("fl")], config, rounds=rounds)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# FL: accuracy, privacy and cost")
    assert "(rounds.png)" in text and "comparison.png" not in text
    assert (tmp_path / "rounds.png").exists()
    assert not (tmp_path / "comparison.png").exists()


def test_tables_show_what_varied_and_not_what_follows_from_it(config):
    rows = [
        row(arm, epsilon_target=epsilon, learning_rate=rate, noise_multiplier=rate)
        for arm in ("fl_dp", "private_ai_local")
        for epsilon, rate in ((0.5, 1.0), (8.0, 2.0))
    ]
    console = rich.console.Console(width=120)
    with console.capture() as captured:
        console.print(comparison.table(rows, vary=["epsilon"]))
    head = captured.get().splitlines()[1]
    assert "target epsilon" in head
    assert "learning rate" not in head and "noise multiplier" not in head


@pytest.mark.needs_openfhe
def test_a_varied_encrypted_run_stands_beside_its_own_counterpart(configured):
    encrypted = configured({"arm": "fl_he"})
    rows = [
        row(arm, learning_rate=rate, seconds_total=seconds + rate)
        for arm, seconds in (("fl", 1.0), ("fl_he", 2.0))
        for rate in (0.1, 0.2)
    ]
    rows.append(row("fl_he", learning_rate=0.3))
    text = comparison.markdown(rows, encrypted, [], vary=["learning_rate"])
    lines = table(section(text, "Encryption"))
    assert [line["learning rate"] for line in lines] == ["0.1", "0.2", "0.3"]
    assert [line["same without HE"] for line in lines] == ["1.1", "1.2", ""]


def test_what_differs_too_much_for_a_figure_is_said_to(tmp_path, config):
    rows = [
        row("fl", learning_rate=rate, momentum=momentum)
        for rate in (0.1, 0.2)
        for momentum in range(comparison.MOST_PANELS + 1)
    ]
    comparison.write(tmp_path, rows, config, vary=["learning_rate", "momentum"])
    assert not (tmp_path / "comparison.png").exists()
    text = (tmp_path / "report.md").read_text()
    assert "**The runs differ in momentum, too much for a figure" in text
    assert "comparison.png" not in text


def mixed(**axes):
    """Rows of which some have null where others of their arm have a value."""
    rows = [
        row("fl_he", 4, seed, 0.1 * number + seed / 100, **values)
        for number, values in enumerate(axes["varied"], start=1)
        for seed in (0, 1)
    ]
    return [*rows, row("fl", accuracy=0.95)]


MIXED = {
    "schemes": (
        ["encryption", "precision"],
        [
            {"encryption": "ckks", "precision": 1e-3},
            {"encryption": "ckks", "precision": 1e-5},
            {"encryption": "exact"},
            {"encryption": "none"},
        ],
    ),
    "bounds": (
        ["encryption", "value_bound"],
        [
            {"encryption": "none"},
            {"encryption": "exact", "value_bound": 0.01},
            {"encryption": "exact", "value_bound": 100.0},
        ],
    ),
    "local work": ([], [{"local_epochs": 2}, {"local_steps": 1}, {"local_steps": 2}]),
    "null first": (["value_bound"], [{"value_bound": None}, {"value_bound": 0.5}]),
}


@pytest.mark.parametrize("name", MIXED)
def test_every_run_stands_in_a_table_with_its_own_value(name, config):
    """Means are recomputed from rows, and each is found in the column of its value."""
    vary, varied = MIXED[name]
    rows = mixed(varied=varied)
    text = comparison.markdown(rows, config, [], vary=vary)
    parts = [p for p in text.split("\n## ") if p.startswith("Accuracy: ")]
    found = {}
    for part in parts:
        for entries in table(part):
            (corner, arm), *values = entries.items()
            axis = corner.removeprefix("arm, ").replace(" ", "_")
            for head, value in values:
                if arm == "FL + HE":
                    found.setdefault((axis, head), set()).add(value)
    shown = {value for values in found.values() for value in values} - {""}
    wanted = {
        f"{(first + second) / 2:.3f} ± {abs(second - first) / 2**0.5:.3f}"
        for first, second in zip(
            *([r["accuracy"] for r in rows[s:-1:2]] for s in (0, 1)), strict=True
        )
    }
    assert shown == wanted
    for number, values in enumerate(varied, start=1):
        (axis,) = {axis for axis, _ in found}
        value = values.get(axis, "ckks" if axis == "encryption" else None)
        head = "not set" if value is None else str(value)
        assert any(
            v.startswith(f"{0.1 * number + 0.005:.3f}") for v in found[axis, head]
        )


def test_a_given_multiplier_and_a_target_stand_beside_each_other(config):
    rows = [
        row("fl_dp", noise_multiplier=0.5, epsilon=50.0),
        row("fl_dp", epsilon_target=1.0, epsilon=0.99),
    ]
    epsilon = METRICS["epsilon"]
    text = comparison.markdown(rows, config, [], metric=epsilon)
    (line,) = table(section(text, "Epsilon"))
    assert [float(value) for value in list(line.values())[1:]] == [50.0, 0.99]


def test_a_run_that_the_layout_loses_stands_by_itself(monkeypatch, config):
    assert "Runs that the tables" not in comparison.markdown(ROWS, config, [])
    lose = lambda line, values, laid_out: [None] * len(values)  # noqa: E731
    monkeypatch.setattr(comparison, "along", lose)
    text = comparison.markdown(ROWS, config, [])
    runs = {line["run"] for line in table(section(text, "Runs that the tables"))}
    assert "fl-4-iid-0" in runs


def test_sums_in_the_clear_have_no_cost_of_encryption(config):
    clear = row("fl_he", encryption="none", seconds_encrypt=None)
    text = comparison.markdown([clear], config, [])
    assert "## Encryption" not in text
    own = row("fl_he", encryption="their:scheme")  # whose code is not at hand
    text = comparison.markdown([clear, own], config, [])
    (line,) = table(section(text, "Encryption"))
    assert line["encryption"] == "their:scheme"
