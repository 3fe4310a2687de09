"""What of a spec has no effect on its run, and why.

Arms, entries and tuned values declare what they use; the rules here derive the rest.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from fedjax_private.algorithms.entry import AlgorithmEntry, Training
from fedjax_private.choices import Choice, Settings, settings_of, without_effect
from fedjax_private.clients.entries import ClientEntry
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.models import ModelEntry
from fedjax_private.runs.arms import ARMS, Arm

S = TypeVar("S", bound=Settings)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What decides which fields of a spec have an effect.

    Attributes:
        arm: its name.
        algorithm: with its settings.
        client: the client function; None for the algorithm's own.
        model: its entry.
        tuned: hyper-parameters before any are given; None is one that the arm lacks.
        shares_noise: whether clients share the noise of each sum.
        encrypts: whether sums are encrypted.
        loses_uploads: whether some uploads never arrive.
    """

    arm: str
    algorithm: Choice[AlgorithmEntry]
    client: Choice[ClientEntry] | None
    model: ModelEntry
    tuned: Hyperparameters
    shares_noise: bool
    encrypts: bool
    loses_uploads: bool


def fields_without_effect(
    facts: Facts, privacy: Iterable[str], encryption: Iterable[str]
) -> dict[str, str]:
    """Field -> one sentence why it has no effect, and the way out.

    Args:
        facts: of the run.
        privacy: fields that only arms with DP use.
        encryption: fields that only arms that encrypt use.
    """
    sentences: dict[str, str] = {}
    for names, reason in _rules(facts, privacy, encryption):
        for name in names:
            sentences.setdefault(name, f"{name} has no effect: {reason}.")
    return sentences


_OUT = "leave it out"

# What only arms with several clients use, federated or not.
_OF_CLIENTS = ("clients", "partition", "client_statistics", "chunk_size")


def _arms(fits: Callable[[Arm], bool]) -> str:
    """Advice that names the arms that have a trait."""
    names = [name for name, arm in ARMS.items() if fits(arm)]
    listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"choose arm {listed}, or {_OUT}"


# Why an algorithm has no use for a field, where there is more to say than that.
_IGNORED: Mapping[str, str] = {
    "batch_size": "takes no batches of a size of their own",
    "epsilon_against": "leaves all adversaries the same noise to face",
}

# Why an arm's tuned values lack a hyper-parameter.
_SERVER_STEPS = "the server of {arm} steps with learning_rate and momentum"
_LACKING: Mapping[str, str] = {
    "batch_size": "noised steps of {arm} sample records with sampling_probability",
    "local_epochs": "noised steps of {arm} are counted by local_steps",
    "server_optimizer": _SERVER_STEPS,
    "server_learning_rate": _SERVER_STEPS,
    "averaging": "{algorithm} in {arm} evaluates the last model, not an average",
    "sampling_probability": "{algorithm} samples no records",
}


def _rules(
    facts: Facts, privacy: Iterable[str], encryption: Iterable[str]
) -> Iterable[tuple[Iterable[str], str]]:
    """Names of fields, and the reason; the first reason that names a field counts."""
    name, arm = f"arm {facts.arm}", ARMS[facts.arm]
    algorithm = facts.algorithm.entry
    if arm.pooled:
        yield (
            (*_OF_CLIENTS, "cohort", "drop_out"),
            f"{name} holds all data at one place; {_arms(lambda a: not a.pooled)}",
        )
    if not arm.federated:
        yield (
            ("cohort", "drop_out", "server_optimizer", "server_learning_rate"),
            f"{name} has no server; {_arms(lambda a: a.federated)}",
        )
    if not arm.private:
        yield privacy, f"{name} adds no noise; {_arms(lambda a: a.private)}"
    if not arm.encrypted:
        hidden = _arms(lambda a: a.encrypted)
        kept = {"min_uploads"} if arm.federated else set()
        yield (
            [field for field in encryption if field not in kept],
            f"{name} encrypts nothing; {hidden}",
        )
        yield (
            ("noise",),
            f"{name} encrypts nothing under which clients could share noise; "
            f"{_arms(lambda a: a.private and a.encrypted)}",
        )
    if not facts.encrypts and not facts.loses_uploads:
        yield (
            ("min_uploads",),
            "nothing is encrypted, and every upload arrives; give drop_out, or " + _OUT,
        )
    if not facts.shares_noise:
        # The clients of an arm with shared noise share it unless `noise` forbids.
        way = "leave out noise=local or honest_clients"
        yield (
            ("honest_clients",),
            f"clients of {name} share no noise{' under noise=local' * arm.shared}; "
            f"{way if arm.shared else _arms(lambda a: a.shared)}",
        )
    if facts.shares_noise:
        yield (
            ("local_steps", "local_epochs"),
            "clients that share noise take one step a round; give noise=local, or "
            + _OUT,
        )
    asked = f"algorithm={facts.algorithm.name}"
    if not algorithm.takes_client:
        yield ("client",), f"{asked} has a client function of its own; {_OUT}"
    if algorithm.training is Training.SGD:
        yield ("mechanism",), f"{asked} has no noised steps; {_OUT}"
    for field in algorithm.ignores:
        yield (field,), f"{asked} {_IGNORED.get(field, 'does not use it')}; {_OUT}"
    if facts.client is not None:
        for field in facts.client.entry.ignores:
            yield (field,), f"client={facts.client.name} does not use it; {_OUT}"
    for value in dataclasses.fields(facts.tuned):
        field = value.name
        # Either of local_epochs and local_steps may be given where one is tuned.
        if getattr(facts.tuned, field) is None and field != "local_steps":
            why = _LACKING.get(field, "{algorithm} in {arm} does not use it")
            yield (field,), f"{why.format(algorithm=asked, arm=name)}; {_OUT}"
    if not facts.model.activations:
        yield (
            ("activation",),
            f"model {facts.model.name} takes none; choose another model, or {_OUT}",
        )
    if not facts.model.augmentable:
        yield (
            ("augmentations",),
            f"model {facts.model.name} does not see images, which would be shifted; "
            f"choose another model, or {_OUT}",
        )
    for setting in dataclasses.fields(facts.algorithm.settings):
        if getattr(facts.algorithm.settings, setting.name) is not None:
            yield (
                setting.metadata.get("replaces", ()),
                f"{setting.name} takes its place; give one of the two",
            )


def choices_of(spec: Settings) -> dict[str, Choice[Any]]:
    """Field -> choice, of the fields that hold one."""
    values = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return {n: value for n, value in values.items() if isinstance(value, Choice)}


def values_of(spec: Settings) -> dict[str, Any]:
    """Field, or setting of a choice -> value; choices by their entries."""
    values = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    for name, choice in choices_of(spec).items():
        values[name] = choice.entry
        for setting in settings_of(choice.entry):
            values[setting] = getattr(choice.settings, setting)
    return values


def with_settings(spec: Settings, sentences: Mapping[str, str]) -> dict[str, str]:
    """Sentences on fields and on the settings of their choices, in order.

    A choice without effect leaves its settings none. A setting that several choices
    have is found where it has no effect in any of them.

    Args:
        spec: whose choices count.
        sentences: on fields; names that are no field are left out.
    """
    found, used = dict(sentences), set()
    for name, choice in choices_of(spec).items():
        why = without_effect(choice.settings)
        for setting in settings_of(choice.entry):
            if name in sentences:
                found[setting] = setting + sentences[name].removeprefix(name)
            elif setting in why:
                found[setting] = why[setting]
            else:
                used.add(setting)
    for setting in used:
        found.pop(setting, None)
    return {name: found[name] for name in values_of(spec) if name in found}


def reset(spec: S, names: Collection[str]) -> S:
    """The spec with the defaults of some fields, and of some settings of choices."""
    changes: dict[str, Any] = {}
    for name, choice in choices_of(spec).items():
        plain = choice.entry.settings()
        idle = [each for each in settings_of(choice.entry) if each in names]
        settings = dataclasses.replace(
            choice.settings, **{each: getattr(plain, each) for each in idle}
        )
        changes[name] = dataclasses.replace(choice, settings=settings)
    for field in dataclasses.fields(spec):
        if field.name in names:
            changes[field.name] = field.default
    return dataclasses.replace(spec, **changes)
