"""The settings of runs, as columns of their rows."""

import dataclasses
import io
import json

import pytest

from fedjax_private import choices, runs
from fedjax_private.aggregation import SCHEMES
from fedjax_private.datasets import PARTITIONS
from fedjax_private.models import MODELS
from fedjax_private.runs.columns import columns, entry_settings
from tests.runs.small import ROW_NAMES


def test_values_that_apply_have_the_names_of_their_flags(prepare):
    skewed = PARTITIONS.choose("dirichlet", {"alpha": 0.3})
    got = columns(prepare(partition=skewed, learning_rate=0.2, cohort=2, drop_out=0.1))
    assert (got["learning_rate"], got["cohort"], got["drop_out"]) == (0.2, 2, 0.1)
    assert (got["alpha"], got["size_skew"]) == (0.3, 0.0)
    assert (got["client"], got["server_optimizer"], got["batch_size"]) == (
        "sgd",
        "sgd",
        16,
    )
    for name in ("epsilon_target", "epsilon_against", "noise", "noise_seed"):
        assert got[name] is None


def test_a_target_is_null_where_the_noise_is_given(prepare):
    met = columns(prepare(arm="fl_dp", epsilon=1.5, noise_seed=3))
    assert met["epsilon_target"] == 1.5
    assert met["epsilon_against"] is None  # all adversaries face the same noise
    assert (met["noise"], met["noise_seed"], met["client"]) == ("local", 3, "dp_sgd")
    assert met["batch_size"] is met["averaging"] is None
    given = columns(prepare(arm="fl_dp"))
    assert given["epsilon_target"] is given["epsilon_against"] is None


def test_the_default_target_is_written_out(blobs):
    ready = runs.prepare(
        runs.Spec(arm="centralized_dp", model="linear", rounds=2), blobs
    )
    assert columns(ready)["epsilon_target"] == 2.9
    assert columns(ready)["cohort"] is columns(ready)["drop_out"] is None


@pytest.mark.needs_openfhe
def test_settings_of_schemes_stand_in_encrypted_arms_alone(prepare):
    assert columns(prepare(arm="fl_he"))["topology"] == "star"
    assert "topology" not in columns(prepare(arm="fl"))
    shared = columns(prepare(arm="private_ai", epsilon=2.0))
    assert shared["epsilon_against"] == "outsiders"
    assert (shared["noise"], shared["min_uploads"]) == ("distributed", 3)
    assert shared["client"] is None  # the algorithm has its own
    assert shared["local_steps"] is None  # always one
    # Only a tree has edge servers.
    assert columns(prepare(arm="fl_he"))["fan_out"] is None
    tree = SCHEMES.choose("ckks", {"topology": "tree"})
    assert columns(prepare(arm="fl_he", encryption=tree))["fan_out"] == 8


def test_what_no_other_column_tells_apart_is_a_column(prepare, tmp_path):
    plain = columns(prepare())
    names = ("client_statistics", "settings", "signal_bound")
    assert [plain[name] for name in names] == [None] * 3
    assert columns(prepare(client_statistics=False))["client_statistics"] is False
    path = tmp_path / "mine.json"
    kind = {"dataset": "blobs", "model": "linear", "steps": "fl", "algorithm": "fedavg"}
    entry = kind | {"hyperparameters": {"learning_rate": 0.3}}
    path.write_text(json.dumps({"version": 1, "entries": [entry]}))
    assert columns(prepare(settings=path))["settings"] == str(path)


@pytest.mark.needs_openfhe
def test_the_bound_of_a_signal_counts_where_noise_is_priced_by_it(prepare):
    exact = prepare(arm="private_ai", epsilon=2.0, encryption="exact")
    bound = exact.hyperparameters.signal_bound
    assert bound is not None and columns(exact)["signal_bound"] == bound
    assert columns(prepare(arm="private_ai", epsilon=2.0))["signal_bound"] is None


def test_sums_in_the_clear_are_named_in_arms_that_would_encrypt(train):
    assert train(arm="fl_he", encryption="none").row["encryption"] == "none"
    assert train().row["encryption"] is None


def test_a_row_s_settings_are_in_it(train):
    row = train(partition=PARTITIONS.choose("dirichlet", {"alpha": 0.3})).row
    assert list(row) == [*ROW_NAMES, "size_skew", "alpha"]


@dataclasses.dataclass(frozen=True)
class Widths(choices.Settings):
    width: tuple[int, ...] = choices.setting((8, 4), "units")


def test_a_name_that_two_entries_share_is_written_with_its_kind():
    model = dataclasses.replace(MODELS.find("linear"), settings=Widths)
    part = dataclasses.replace(PARTITIONS.find("iid"), settings=Widths)
    several = [("model", choices.Choice(model, Widths()))]
    assert entry_settings(several) == {"width": "8,4"}
    several.append(("partition", choices.Choice(part, Widths((1,)))))
    assert entry_settings(several) == {"model.width": "8,4", "partition.width": "1"}
    several[1] = ("partition", choices.Choice(part, Widths()))
    assert entry_settings(several) == {"width": "8,4"}  # one meaning, as of a flag
    lists = [(kind, choices.Choice(each.entry, Widths([8]))) for kind, each in several]
    assert entry_settings(lists) == {"width": [8]}


def test_rows_are_read_into_a_table_as_they_are(train):
    pandas = pytest.importorskip("pandas")
    directories = [
        train(arm="fl_dp", noise_multiplier=noise).directory for noise in (0.0, 2.0)
    ]
    directories.append(train(learning_rate=0.2).directory)
    text = "".join((each / "runs.jsonl").read_text() for each in directories)
    table = pandas.read_json(io.StringIO(text), lines=True)
    numbers = ("epsilon", "epsilon_insider", "learning_rate", "batch_size", "accuracy")
    assert all(table[name].dtype.kind in "fi" for name in numbers)
    assert table["epsilon"][0] == float(
        "inf"
    )  # without noise, which JSON has no name for
    assert table["epsilon"].isna().tolist() == [False, False, True]
    assert table.groupby("noise_multiplier")["accuracy"].count().tolist() == [1, 1]
    assert pandas.to_datetime(table["time"]).dt.tz is not None
