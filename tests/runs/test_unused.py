"""What is called unused changes nothing, and all else changes something."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_private import models, runs, simulation
from fedjax_private.aggregation import SCHEMES
from fedjax_private.aggregation.plain import IDENTITY
from fedjax_private.algorithms import ALGORITHMS
from fedjax_private.algorithms.entry import Task
from fedjax_private.choices import Choice, Settings, positive, setting, settings_of
from fedjax_private.clients.entries import CLIENTS
from fedjax_private.datasets import PARTITIONS, Dataset, Examples, Normalization
from fedjax_private.runs import preparation
from fedjax_private.runs.clients import shards
from fedjax_private.trust import Adversary


@pytest.fixture(scope="module")
def images():
    """Pictures (4, 4, 1) of two classes, of which augmentation can shift copies."""
    rng = np.random.default_rng(0)

    def examples(count):
        labels = np.arange(count, dtype=np.int32) % 2
        inputs = rng.normal(size=(count, 4, 4, 1)) + labels[:, None, None, None]
        return Examples(inputs.astype(np.float32), labels)

    return Dataset("images", examples(60), examples(10), 2, Normalization(0.0, 1.0))


class Recorder:
    """Passes attributes on, and notes which of them were read."""

    def __init__(self, values):
        self.values, self.read = values, {}

    def __getattr__(self, name):
        value = getattr(self.values, name)
        self.read[name] = value
        return value


class RecordingTask(Task):
    """Notes which of its fields are read."""

    def __getattribute__(self, name):
        object.__getattribute__(self, "__dict__").setdefault("read", set()).add(name)
        return super().__getattribute__(name)


LOSSES = {}  # a model's loss, by the model: traced once


def traced(model):
    if id(model) not in LOSSES:
        params = jax.eval_shape(model.init, jax.random.key(0))
        inputs, labels = np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int32)
        text = str(jax.make_jaxpr(model.loss)(params, inputs, labels))
        LOSSES[id(model)] = model, text
    return LOSSES[id(model)][1]


def effects(run):
    """All that decides what a run does, without what was asked for.

    Algorithms are built from recorders: of hyper-parameters and settings, those count
    that are read.
    """
    spec, entry, privacy = run.spec, run.algorithm.entry, run.privacy
    values = Recorder(run.hyperparameters)
    settings = Recorder(run.algorithm.settings)
    client = None if spec.client is None else CLIENTS.choose(spec.client)
    cohort = len(run.schedule[0])
    task = RecordingTask(
        run.model,
        values,
        settings,
        client,
        privacy.plan if privacy else None,
        IDENTITY,
        run.clients,
        cohort,
        len(run.dataset.train),
    )
    entry.make(task)
    found = {
        "training": values.read,
        "settings": settings.read,
        "algorithm": entry.name,
        "client": client if "client" in task.read else None,
        "model": traced(run.model),
        "start": jax.tree.map(
            lambda leaf: leaf.tolist(), run.model.init(jax.random.key(spec.seed))
        ),
        "batches": jax.random.key_data(simulation.root_keys(spec.seed, 0).sampling),
        "evaluated": run.hyperparameters.evaluate_every,
        "shards": run.data,
        "schedule": run.schedule,
        "backend": spec.backend,
    }
    found["told"] = shards(run)
    if run.clients > 1:
        found["chunks"] = spec.chunk_size
    if privacy is not None:
        against = Adversary.INSIDERS if len(privacy.against) > 1 else None
        found["privacy"] = (
            privacy.plan,
            privacy.noise_multiplier,
            privacy.epsilon,
            privacy.epsilon_insider,
            privacy.claimed,
            against and privacy.event(1, against),
            spec.delta,
            spec.noise_seed,
        )
    if run.trust is not None:
        lost = simulation.drop_outs(spec.seed, run.schedule, spec.drop_out)
        left = [cohort - len(each) for each in lost]
        found["lost"] = lost
        found["void"] = [count < run.trust.uploads for count in left]
        found["sums"] = run.sums
    if run.sums is not None:
        own = run.scheme.settings
        for name in ("processes", "arithmetic"):
            found[name] = getattr(own, name, None)
        tree = getattr(own, "topology", None) == "tree"
        found["edges"] = own.fan_out if tree else None
    return found


def same(one, other):
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(
        np.array_equal(a, b)
        if isinstance(a, np.ndarray | jax.Array)
        else a is b or a == b
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


# For each field and setting, values of which one at least is not a case's own.
CHANGES = {
    "clients": [5],
    "partition": ["shards"],
    "size_skew": [1.5],
    "seed": [3],
    "client_statistics": [True, False],
    "model": ["mlp_2nn"],
    "activation": ["elu"],
    "algorithm": ["fedsgd", "fedavg", "dopamine", "truex"],
    "client": ["dp_sgd", "sgd"],
    "augmentations": [2],
    "rounds": [3],
    "local_epochs": [3],
    "local_steps": [3],
    "batch_size": [7],
    "learning_rate": [0.123],
    "momentum": [0.321],
    "server_optimizer": ["adam"],
    "server_learning_rate": [0.77],
    "averaging": [0.55],
    "cohort": [2],
    "drop_out": [0.6],
    "evaluate_every": [3],
    "chunk_size": [2],
    "backend": ["loop"],
    "epsilon": [4.0],
    "delta": [1e-3],
    "noise_multiplier": [1.5],
    "clip_norm": [0.7],
    "sampling_probability": [0.31],
    "mechanism": ["per_layer"],
    "noise": ["local", "distributed"],
    "honest_clients": [1],
    "epsilon_against": ["insiders"],
    "noise_seed": [5],
    "encryption": ["exact", "ckks"],
    "min_uploads": [2, 3],
    # Of schemes.
    "value_bound": [50.0],
    "sum_bound": [2.5, 60.0],
    "precision": [1e-9, 1e-20],
    "quantization_bits": [12],
    "protect": [False, True],
    "packing": ["real"],
    "statistical_bits": [20],
    "query_budget": [50],
    "flooding": ["worst_case"],
    "key_holder": ["clients"],
    "recovery_threshold": [4],
    "holder_drop_out": [0.2],
    "server": ["semi_honest", "malicious"],
    "key_rounds": [1],
    "topology": ["ring"],
    "fan_out": [2],
    "encrypted_fraction": [0.5],
    "processes": [True],
    "arithmetic": ["openfhe", "xla"],
    # Of algorithms and mechanisms.
    "proximal": [0.7],
    "nbafl_claim": [30.0],
    "exposures": [1],
    "clip_quantile": [0.3],
    "clip_learning_rate": [0.4],
    "clip_share": [0.1],
    "clip_stability": [0.2],
}

# The data are loaded before `prepare`, and settings files have tests of their own.
ELSEWHERE = {"arm", "dataset", "data_dir", "settings", "label"}


def cases():
    for arm in runs.ARMS:
        for entry in ALGORITHMS.entries():
            if arm in entry.arms:
                yield {"arm": arm, "algorithm": entry.name}
    yield {"arm": "fl", "drop_out": 0.3}
    yield {"arm": "fl", "client": "sgd"}
    yield {"arm": "fl_dp", "client": "dp_sgd"}
    yield {"arm": "fl_he", "encryption": "none"}
    yield {"arm": "fl_he", "encryption": "exact"}
    yield {"arm": "fl_he", "encryption": "threshold_ckks"}
    tree = SCHEMES.choose("ckks", {"topology": "tree"})
    yield {"arm": "fl_he", "encryption": tree}
    alone = SCHEMES.choose("exact", {"arithmetic": "openfhe", "server": "semi_honest"})
    yield {"arm": "fl_he", "encryption": alone}
    bare = SCHEMES.choose("ckks", {"protect": False})
    yield {"arm": "fl_he", "encryption": bare}
    yield {"arm": "private_ai", "noise": "local"}
    yield {"arm": "private_ai_local", "encryption": "none"}
    yield {"arm": "private_ai_local", "noise": "distributed"}
    yield {"arm": "private_ai", "encryption": "exact"}
    yield {"arm": "private_ai", "encryption": "threshold_exact"}
    yield {"arm": "private_ai", "encryption": "masks"}
    yield {"arm": "fl_he", "encryption": "masks"}
    yield {"arm": "centralized_dp", "mechanism": "adaptive"}
    yield {"arm": "centralized_dp", "mechanism": "automatic"}
    claim = ALGORITHMS.choose("nbafl", {"nbafl_claim": 60.0})
    yield {"arm": "fl_dp", "algorithm": claim, "noise_multiplier": None}


def spec_of(case):
    usual = {"model": "linear", "rounds": 2, "noise_multiplier": 3.0, "delta": 1e-2}
    spec = runs.Spec(**usual | case).used_only()
    return spec if spec.traits.pooled else dataclasses.replace(spec, clients=4)


def changed(spec, name, value):
    """The spec with another value of a field, or of a choice's setting."""
    if name in {field.name for field in dataclasses.fields(spec)}:
        if name == "epsilon":
            spec = dataclasses.replace(spec, noise_multiplier=None)
        if name in ("local_epochs", "local_steps"):
            other = {"local_epochs": "local_steps", "local_steps": "local_epochs"}
            spec = dataclasses.replace(spec, **{other[name]: None})
        return dataclasses.replace(spec, **{name: value})
    for field in (field.name for field in dataclasses.fields(spec)):
        choice = getattr(spec, field)
        if isinstance(choice, Choice) and name in settings_of(choice.entry):
            settings = dataclasses.replace(choice.settings, **{name: value})
            choice = dataclasses.replace(choice, settings=settings)
            return dataclasses.replace(spec, **{field: choice})
    raise AssertionError(name)


def named(case):
    return ",".join(str(getattr(value, "name", value)) for value in case.values())


@pytest.mark.parametrize("case", list(cases()), ids=named)
def test_only_what_is_unused_changes_nothing(case, images, monkeypatch):
    checked = preparation._check_effects
    monkeypatch.setattr(preparation, "_check_effects", lambda spec, model: None)
    spec = spec_of(case)
    before, unused = effects(runs.prepare(spec, images)), spec.unused()
    names = spec.values().keys() - ELSEWHERE
    assert unused.keys() <= names <= CHANGES.keys()
    checked(spec, None)
    for name in names:
        found = []  # "refused", or whether anything is different
        for value in CHANGES[name]:
            try:
                other = changed(spec, name, value)
                after = effects(runs.prepare(other, images))
            except ValueError:
                found.append("refused")
                continue
            found.append(not same(before, after))
            if name in unused and other != spec:
                with pytest.raises(ValueError, match=f"^{name} has no effect: "):
                    checked(other, None)
        if name in unused:
            assert True not in found, (name, unused[name])
        else:
            assert found != [False] * len(found), name


def test_a_spec_of_what_is_used_is_the_same_run():
    asked = runs.Spec(arm="centralized", clients=8, partition="shards", epsilon=1.0)
    assert asked.used_only() == runs.Spec(arm="centralized")
    assert asked.used_only().used_only() == asked.used_only()
    tree = SCHEMES.choose("ckks", {"fan_out": 3, "precision": 1e-3})
    kept = runs.Spec(arm="fl_he", encryption=tree).used_only().encryption.settings
    assert (kept.fan_out, kept.precision) == (8, 1e-3)


def test_sentences_say_why_and_the_way_out():
    unused = runs.Spec(arm="fl").unused()
    assert unused["epsilon"] == (
        "epsilon has no effect: arm fl adds no noise; choose arm centralized_dp, "
        "fl_dp, private_ai_local or private_ai, or leave it out."
    )
    assert unused["precision"].startswith("precision has no effect: arm fl encrypts")
    for arm in runs.ARMS:
        for name, sentence in runs.Spec(arm=arm).unused().items():
            assert sentence.startswith(f"{name} has no effect: ")
            assert sentence.endswith("leave it out.")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"activation": "relu"}, "activation has no effect: a ready model is trained"),
        ({"augmentations": 2}, "augmentations has no effect: a ready model is trained"),
    ],
)
def test_a_ready_model_is_trained_as_it_is(settings, named, images):
    model = models.for_dataset("mlp_2nn", images)
    with pytest.raises(ValueError, match=named):
        runs.prepare(runs.Spec(arm="fl", **settings), images, model)


def test_tables_have_no_shifted_copies(blobs):
    with pytest.raises(ValueError, match=r"augmentations shifts images.*shape \(6,\)"):
        runs.prepare(runs.Spec(arm="fl", model="linear", augmentations=2), blobs)


@dataclasses.dataclass(frozen=True)
class Shrinking(Settings):
    alpha: float = setting(1.0, "factor of the step", positive)


def test_a_setting_that_a_choice_in_use_shares_keeps_its_value():
    """Pooled data have no partition, whose alpha the algorithm has as well."""
    own = dataclasses.replace(ALGORITHMS.find("local"), settings=Shrinking)
    asked = runs.Spec(
        arm="centralized",
        partition=PARTITIONS.choose("dirichlet", {"alpha": 0.1}),
        algorithm=Choice(own, Shrinking(0.1)),
    )
    assert "partition" in asked.unused() and "alpha" not in asked.unused()
    kept = asked.used_only()
    assert kept.partition_name == "iid"
    assert kept.algorithm.settings.alpha == kept.values()["alpha"] == 0.1


def test_honest_clients_without_shared_noise_have_a_way_out():
    for arm, noise, way in (
        ("private_ai", "local", "; leave out noise=local or honest_clients"),
        ("private_ai_local", None, "; choose arm private_ai, or leave it out"),
    ):
        spec = runs.Spec(arm=arm, noise=noise, honest_clients=2, clients=4)
        assert way in spec.unused()["honest_clients"]
