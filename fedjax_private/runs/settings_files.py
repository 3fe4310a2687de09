"""Files of hyper-parameters, which `experiments.tune` writes and runs read.

A file is JSON, to be read and edited by hand:

    {
      "version": 1,
      "entries": [
        {
          "dataset": "csv:ward.csv",
          "model": "linear",
          "steps": "central_dp",
          "algorithm": "distributed_dp_sgd",
          "epsilon": 2.9,
          "cohort": 4,
          "hyperparameters": {"rounds": 40, "learning_rate": 2.0, "clip_norm": 0.1},
          "search": {"validation_accuracy": 0.97, "log": "settings.jsonl"}
        }
      ]
    }

An entry serves runs of its data set and model whose steps are of its kind (`steps_of`).
Of several, a run takes one of its algorithm, if there is one, then the one with the
nearest epsilon, then the one with the nearest cohort. Hyper-parameters that an entry
lacks come from `runs.tuned`; those that the run lacks are left out. Under `local_dp`,
the learning rate is multiplied by sqrt(cohort of the entry / cohort of the run), as the
noise of a mean grows with the number of clients. A run's `settings_from` tells both.
`epsilon` and `cohort` are null where they do not apply, and `search` is left out where
the values were written by hand.
"""

import dataclasses
import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedjax_private.algorithms.entry import AlgorithmEntry, Training
from fedjax_private.algorithms.fedopt import SERVER_OPTIMIZERS
from fedjax_private.choices import Check, kinds, probability
from fedjax_private.hyperparameters import Hyperparameters
from fedjax_private.runs.arms import ARMS
from fedjax_private.runs.tuned import DEFAULT_EPSILON

VERSION = 1
MOST_BYTES = 1_000_000
MOST = 1e15  # of any number; larger whole ones are none that a float holds

CENTRAL, LOCAL = "central_dp", "local_dp"


def steps_of(arm: str, algorithm: AlgorithmEntry, *, shares_noise: bool) -> str:
    """What kind of steps a run takes; runs of one kind can share hyper-parameters.

    `centralized`, `local` or `fl`, which serves `fl_he` too, where nothing is noised;
    `central_dp` where the noise of a step is all in one release, centrally or shared by
    clients; `local_dp` where every client adds all of it; the algorithm's name where
    noise is added after plain steps.

    Args:
        arm: of `ARMS`.
        algorithm: that the run trains with.
        shares_noise: whether clients share the noise of each sum.
    """
    traits = ARMS[arm]
    if not traits.private:
        return "fl" if traits.federated else arm
    if algorithm.training is Training.SGD:
        return algorithm.name
    return CENTRAL if traits.pooled or shares_noise else LOCAL


_WORDS = {
    CENTRAL: "central_dp (a step's noise all in one release)",
    LOCAL: "local_dp (every client adds all of the noise)",
}


def in_words(steps: str) -> str:
    """A kind of steps, for a reader who has not seen its name."""
    return _WORDS.get(steps, f"steps of {steps}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Hyper-parameters for one kind of run.

    Attributes:
        dataset: name of the data set.
        model: name of the model.
        steps: see `steps_of`.
        algorithm: name of the one that they were searched with.
        epsilon: the target; None without DP.
        cohort: clients of a round; None where data are pooled or nobody aggregates.
        values: (field of `Hyperparameters`, value) pairs.
        search: how they were found; None where they were written by hand.
    """

    dataset: str
    model: str
    steps: str
    algorithm: str
    epsilon: float | None
    cohort: int | None
    values: tuple[tuple[str, Any], ...]
    search: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from other entries of a file."""
        kind = self.dataset, self.model, self.steps, self.algorithm
        return (*kind, self.epsilon, self.cohort)

    def described(self) -> dict[str, Any]:
        """The entry as JSON holds it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        search = {"search": fields.pop("search")} if self.search is not None else {}
        values = dict(fields.pop("values"))
        return {**fields, "hyperparameters": values, **search}


@dataclasses.dataclass(frozen=True)
class SettingsFile:
    """The entries of a file.

    Attributes:
        path: of the file, as it was given.
        entries: in the order of the file.
    """

    path: str
    entries: tuple[Entry, ...] = ()

    def for_run(
        self,
        *,
        dataset: str,
        model: str,
        steps: str,
        algorithm: str,
        epsilon: float | None,
        cohort: int,
    ) -> Entry | None:
        """The entry that serves a run; None where there is none.

        Args:
            dataset: name of the data set.
            model: name of the model.
            steps: see `steps_of`.
            algorithm: name of the algorithm.
            epsilon: the target; None for the default one.
            cohort: clients of a round.
        """
        wanted = dataset, model, steps
        able = [e for e in self.entries if (e.dataset, e.model, e.steps) == wanted]
        target = epsilon or DEFAULT_EPSILON

        def distance(entry: Entry) -> tuple[float, ...]:
            return (
                entry.algorithm != algorithm,
                abs(math.log((entry.epsilon or target) / target)),
                abs(math.log((entry.cohort or cohort) / cohort)),
            )

        return min(able, key=distance, default=None)

    def with_entry(self, entry: Entry) -> "SettingsFile":
        """The file with an entry added, or in the place of the one of its key."""
        at = {each.key: each for each in self.entries} | {entry.key: entry}
        return dataclasses.replace(self, entries=tuple(at.values()))

    def described(self) -> str:
        """The path, as config.json holds it."""
        return self.path

    def held(self) -> str:
        """What its entries serve, in words."""
        kinds = dict.fromkeys(
            f"{e.steps} of {e.dataset} and {e.model}" for e in self.entries
        )
        return ", ".join(kinds) or "none"

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        described = [entry.described() for entry in self.entries]
        text = json.dumps({"version": VERSION, "entries": described}, indent=2)
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(text + "\n")
        beside.replace(path)


def read(path: str | os.PathLike[str], checks: Mapping[str, Check]) -> SettingsFile:
    """Reads a file and checks all of it.

    Args:
        path: of the file.
        checks: field of `Hyperparameters` -> check of its values.

    Raises:
        ValueError: no such file, or it holds anything but entries with values that
            their checks let pass. One sentence names the entry.
    """
    where = f"settings={os.fspath(path)}"
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{where} is no file.")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"{where} is larger than {MOST_BYTES} bytes.")
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{where} cannot be read ({error.strerror}): experiments.tune writes such "
            "a file."
        ) from error
    try:
        content = json.loads(raw, parse_constant=_refused, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}.") from error
    entries = _entries(content, where)
    checked = tuple(
        _entry(each, f"{where}, entry {number}", checks)
        for number, each in enumerate(entries, 1)
    )
    keys = [entry.key for entry in checked]
    for number, key in enumerate(keys, 1):
        if key in keys[: number - 1]:
            raise ValueError(f"{where}, entry {number}: an earlier entry is for this.")
    return SettingsFile(os.fspath(path), checked)


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} stands there twice")
        result[name] = value
    return result


def _entries(content: Any, where: str) -> list[Any]:
    if not isinstance(content, dict) or content.keys() != {"version", "entries"}:
        raise ValueError(f"{where} must hold version and entries, and nothing else.")
    version = content["version"]
    if isinstance(version, bool) or version != VERSION:
        raise ValueError(
            f"{where} has version {version!r}, and only {VERSION} is known."
        )
    entries = content["entries"]
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f"{where}: entries must be a list of objects.")
    return entries


def _entry(raw: Mapping[str, Any], where: str, checks: Mapping[str, Check]) -> Entry:
    needed = {"dataset", "model", "steps", "algorithm", "hyperparameters"}
    known = needed | {"epsilon", "cohort", "search"}
    if missing := sorted(needed - raw.keys()):
        raise ValueError(f"{where} lacks {missing[0]}.")
    if unknown := sorted(raw.keys() - known):
        raise ValueError(f"{where} has {unknown[0]!r}, which is none of its names.")
    texts = {}
    for name in ("dataset", "model", "steps", "algorithm"):
        texts[name] = _typed(raw[name], str, f"{where}: {name}")
    epsilon, cohort = raw.get("epsilon"), raw.get("cohort")
    if epsilon is not None:
        epsilon = _typed(epsilon, float, f"{where}: epsilon")
        if not 0.0 < epsilon < math.inf:
            raise ValueError(f"{where}: epsilon must be positive and finite.")
    if cohort is not None and _typed(cohort, int, f"{where}: cohort") < 1:
        raise ValueError(f"{where}: cohort must be at least 1.")
    search = raw.get("search")
    if search is not None and not isinstance(search, dict):
        raise ValueError(f"{where}: search must be an object.")
    values = _values(raw["hyperparameters"], where, checks)
    return Entry(**texts, epsilon=epsilon, cohort=cohort, values=values, search=search)


def _values(
    raw: Any, where: str, checks: Mapping[str, Check]
) -> tuple[tuple[str, Any], ...]:
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: hyperparameters must be an object.")
    types = kinds(Hyperparameters)
    checks = {"signal_bound": probability, **checks}
    if {"local_epochs", "local_steps"} <= raw.keys():
        raise ValueError(f"{where}: give local_epochs or local_steps, not both.")
    values = []
    for name, value in raw.items():
        if name not in types:
            raise ValueError(f"{where} has {name!r}, which is no hyper-parameter.")
        value = _typed(value, types[name], f"{where}: {name}")
        # A file imports nothing: an optimiser of the user's own is given by name.
        if name == "server_optimizer" and value not in SERVER_OPTIMIZERS.built_in:
            raise ValueError(
                f"{where}: server_optimizer must be one of "
                f"{', '.join(SERVER_OPTIMIZERS)}, got {value!r}."
            )
        check = checks.get(name)
        if check is not None and (wrong := check(value)) is not None:
            raise ValueError(f"{where}: {name} {wrong}, got {value}.")
        values.append((name, value))
    return tuple(values)


def _typed(value: Any, kind: Any, where: str) -> Any:
    """The value, if it is of the kind; whole numbers are numbers."""
    words = {str: "text", int: "a whole number", float: "a number"}[kind]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = number if kind is float else isinstance(value, kind)
    if not fits or (kind is int and not number):
        raise ValueError(f"{where} must be {words}, got {value!r}.")
    if number and abs(value) > MOST:
        raise ValueError(f"{where} must be at most {MOST:g}.")
    return float(value) if kind is float else value
