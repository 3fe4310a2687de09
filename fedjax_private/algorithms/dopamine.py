"""Dopamine: hospitals split the noise of central DP-SGD ("semi-central DP").

Malekzadeh, Hasircioglu, Mital, Katarya, Ozfatura, Gunduz, "Dopamine: Differentially
Private Federated Learning on Medical Data", PPAI 2021 (arXiv 2101.11693). In every
round each of m hospitals draws a Poisson sample B_k of its records, all with the same
q, and takes one step of DP-SGD with a share of the noise; a secure sum shows the server
nothing but the total, with which it takes a step with momentum:

    u_k = sum_{i in B_k} clip_C(grad l_i(x)) + N(0, sigma^2 C^2 / m I),
    g   = (u_1 + ... + u_m) / q N,
    v  <- beta v + g,    x <- x - eta v.

The paper compares five settings, here as `Setting`. What noise they leave in the mean
gradient over q N expected records of one step:

    C       pooled records, SGD                            none
    F       FedAvg                                         none
    CDP     pooled records, DP-SGD                         sigma^2 C^2 / (q N)^2
    FPDP    FedAvg of DP-SGD, each with all of the noise   m sigma^2 C^2 / (q N)^2
    FSCDP   the formulas above                             sigma^2 C^2 / (q N)^2

The names, the share of the noise and what each setting does were read off the authors'
public code (github.com/ipc-lab/private-ml-for-health). The paper's own text was not to
be had when this was written: its formulas are from memory, momentum's above all.

Changed, and why:
- In their code every hospital keeps its own momentum, and the server averages weights.
  Here the server keeps it: that is the same by linearity where all take every step, and
  what hospitals send is one noisy sum of bounded sensitivity.
- There, a hospital whose sample is empty returns the weights as they are, without its
  share of the noise. Here every upload carries its share.
- There, each hospital divides by a batch of its own and hospitals count equally. Here
  the sum is divided by the public q N, so that a record counts the same everywhere.
- Their F and FPDP train half of the hospitals a round on shuffled epochs, which FPDP
  prices as Poisson samples. Here all take part, and FPDP draws Poisson samples.
- C and CDP take one step a round, to be compared with FSCDP step by step.
- There, all hospitals have the one secret key: whoever colludes with one reads every
  upload. Here `Trust` says who decrypts, and so do both epsilons.

Formal guarantees: n rounds of FSCDP cost a record what `SharedPlan.event(n)` says, n
Poisson-sampled Gaussian mechanisms of noise multiplier sigma, as in CDP, against all
who see the released sums only, the server included; and of sigma sqrt(t / m) against
the server together with all hospitals but t, if they cannot decrypt uploads. It needs
that each sum holds m uploads and that hospitals add their shares; see `SharedPlan`.
CDP's guarantee is against all but whoever holds the pool. FPDP's is against everybody,
n times its local steps of noise multiplier sigma; hospitals' records are disjoint, so
that all of them together cost no more than one. C and F have none.
"""

import dataclasses
import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_private.aggregation.types import Aggregation, Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.distributed_dp_sgd import distributed_dp_sgd
from fedjax_private.algorithms.fedavg import fedavg
from fedjax_private.algorithms.local import alone
from fedjax_private.clients.training import (
    DpSgdConfig,
    SgdConfig,
    Trainer,
    dp_sgd,
    sgd,
)
from fedjax_private.clients.updates import equally, federated, kept
from fedjax_private.datasets.clients import ClientData
from fedjax_private.privacy.accounting import Event, Neighbors, NoPrivacy, Repeated
from fedjax_private.privacy.clipping import FlatClipping
from fedjax_private.privacy.noise import GaussianNoise
from fedjax_private.privacy.plan import PrivacyPlan
from fedjax_private.privacy.sampling import PoissonSampling
from fedjax_private.privacy.shares import SharedPlan, shared
from fedjax_private.trust import Adversary, Decryptor, Trust
from fedjax_private.typing import LossFn, Params


def dopamine(
    loss: LossFn,
    plan: SharedPlan,
    learning_rate: float,
    codec: Codec,
    params_like: Params,
    *,
    momentum: float = 0.9,
    backend: str = "auto",
    physical_batch_size: int | None = None,
) -> Algorithm:
    """Dopamine itself: the setting FSCDP.

    Args:
        loss: of each example.
        plan: as `privacy.shared` makes it against outsiders, with all hospitals in each
            sum; its expected batch size is q N.
        learning_rate: eta, positive and finite.
        codec: of the aggregation in use, whose vectors are of the params' size.
        params_like: params or their shapes.
        momentum: beta, in [0, 1); 0.9 in the authors' code.
        backend: see `for_each_client`.
        physical_batch_size: see `DpSgdConfig`.

    Formal guarantees: those of `SharedPlan`; the server's step is post-processing.

    Raises:
        ValueError: a value outside these ranges.
    """
    # Checks the three values.
    DpSgdConfig(learning_rate, momentum, physical_batch_size=physical_batch_size)
    return distributed_dp_sgd(
        loss,
        plan,
        optax.sgd(learning_rate, momentum or None),
        codec,
        params_like,
        backend=backend,
        physical_batch_size=physical_batch_size,
    )


class Setting(enum.Enum):
    """The settings that the paper compares, by its own names; see the module."""

    C = "centralised, no privacy"
    F = "federated, no privacy"
    CDP = "centralised, central DP"
    FPDP = "federated, parallel DP"
    FSCDP = "federated, semi-central DP"

    @property
    def pooled(self) -> bool:
        """Whether one party holds all records, and nothing is sent."""
        return self in (Setting.C, Setting.CDP)


@dataclasses.dataclass(frozen=True)
class DopamineSettings:
    """What the five settings have in common, so that they can be compared.

    Attributes:
        trust: of the federated settings: `uploads` is m, all hospitals.
        records: N, the public number of all hospitals' records.
        sampling_probability: q, of every record in every step; in (0, 1].
        clip_norm: C, positive and finite.
        noise_multiplier: sigma, finite and not negative.
        neighbors: the relation that defines "one record".
        learning_rate: eta, positive and finite.
        local_steps: between two averages of F and FPDP, at least 1. The authors take 5
            epochs, that is 5 / q. The other settings take one step a round.
        momentum: beta, in [0, 1). F and FPDP start it afresh in every round.

    Raises:
        ValueError: a value outside these ranges.
    """

    trust: Trust
    records: int
    sampling_probability: float
    clip_norm: float
    noise_multiplier: float
    neighbors: Neighbors
    learning_rate: float
    local_steps: int
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.records < 1:
            raise ValueError(f"records must be 1 or more, got {self.records}.")
        self.training(self.local_steps)
        self.plan()

    @property
    def hospitals(self) -> int:
        """m."""
        return self.trust.uploads

    def training(self, steps: int) -> DpSgdConfig:
        """Local DP-SGD of so many steps a round."""
        return DpSgdConfig(self.learning_rate, self.momentum, steps)

    def plan(self, parties: int = 1) -> PrivacyPlan:
        """DP-SGD on the pool, or on one shard where several parties take equal parts.

        A hospital's own number of records is not public, so that all of them divide by
        the same expected batch, q N / m.
        """
        return PrivacyPlan(
            PoissonSampling(self.sampling_probability),
            FlatClipping(self.clip_norm),
            GaussianNoise(self.noise_multiplier),
            self.sampling_probability * self.records / parties,
            self.neighbors,
        )

    def shared_plan(self) -> SharedPlan:
        """Shares of variance sigma^2 C^2 / m, and the batch of all hospitals."""

        def share(noise_multiplier: float) -> PrivacyPlan:
            noise = GaussianNoise(noise_multiplier)
            return dataclasses.replace(self.plan(), noise=noise)

        return shared(share, self.noise_multiplier, self.trust)


@dataclasses.dataclass(frozen=True)
class DopamineRun:
    """One of the five settings, ready for `simulation.simulate`.

    Attributes:
        setting: which.
        algorithm: what is run.
        aggregation: sums the hospitals' updates; None where the records are pooled.
        plan: what is private about a step; None without privacy.
        trust: of the federated settings.
        steps: that a record takes part in a round, at most.
    """

    setting: Setting
    algorithm: Algorithm
    aggregation: Aggregation | None
    plan: PrivacyPlan | SharedPlan | None
    trust: Trust
    steps: int

    @property
    def clients(self) -> int:
        """How many the schedule has in each round: all hospitals, or the one pool."""
        return 1 if self.setting.pooled else self.trust.uploads

    @property
    def summed(self) -> str:
        """What the server sums, in words."""
        return {
            Setting.C: "nothing: one party takes every step by itself",
            Setting.F: "the hospitals' differences of weights, equally weighted",
            Setting.CDP: "nothing: one party takes every step by itself",
            Setting.FPDP: "the hospitals' differences of weights, equally weighted, "
            "with all of the noise in each",
            Setting.FSCDP: f"clipped gradients with 1/{self.trust.uploads} of the "
            "noise's variance in each upload, where the server sees the sum only",
        }[self.setting]

    def shards(self, data: ClientData) -> ClientData:
        """The hospitals' shards (m, N_max, ...) as this setting takes them.

        Where records are pooled that is one shard of all N, on the host.
        """
        if not self.setting.pooled:
            return data
        inputs, labels, mask = map(np.asarray, (data.inputs, data.labels, data.mask))
        everyone = np.ones((1, np.count_nonzero(mask)), np.bool_)
        return ClientData(inputs[mask][None], labels[mask][None], everyone)

    def event(self, rounds: int, adversary: Adversary = Adversary.OUTSIDERS) -> Event:
        """What so many rounds cost a record; see `against` for whom that is against."""
        steps = rounds * self.steps
        if self.plan is None:
            return Repeated(NoPrivacy(), steps)
        if isinstance(self.plan, SharedPlan):
            return self.plan.event(steps, adversary)
        return self.plan.event(steps)

    def against(self, adversary: Adversary = Adversary.OUTSIDERS) -> str:
        """Whom `event` of the same adversary is against, in words.

        The two adversaries differ in FSCDP only.
        """
        if self.plan is None:
            return "nobody"
        if self.setting is Setting.CDP:
            return "everybody but whoever holds the pool"
        if self.setting is Setting.FPDP:
            return "everybody: the world, the server and all other hospitals together"
        if adversary is Adversary.OUTSIDERS:
            return "the world and the server, who see the released sums only"
        reading = ", who read uploads" if self.trust.insiders_read_uploads else ""
        return (
            f"the server together with all hospitals but {self.trust.honest_clients} "
            f"of {self.trust.uploads}{reading}"
        )


def dopamine_setting(
    setting: Setting,
    settings: DopamineSettings,
    loss: LossFn,
    sums: Callable[[int], Aggregation],
    params_like: Params,
    *,
    backend: str = "auto",
    physical_batch_size: int | None = None,
) -> DopamineRun:
    """One of the five settings: `simulate(run.algorithm, run.aggregation, ...)`.

    The data are `run.shards(data)`, and the schedule has `run.clients` in every round,
    as from `simulation.cohorts(0, rounds, run.clients)`.

    Args:
        setting: which.
        settings: what all of them share.
        loss: of each example.
        sums: values of an update -> its aggregation, for the trust model of `settings`;
            not called where records are pooled. FSCDP sums P values, whose total is the
            mean gradient in units of C; F and FPDP sum P weights and a one. In place of
            encrypted sums `PlainAggregation` will do, where only accuracy matters.
        params_like: params or their shapes; P values.
        backend: see `for_each_client`.
        physical_batch_size: see `DpSgdConfig`.

    Formal guarantees: `run.event(rounds, adversary)`, against `run.against(adversary)`;
    see the module.

    Raises:
        ValueError: `sums` made an aggregation for another trust model; for FSCDP, one
            where nobody is needed to decrypt, or one that adds whole numbers.
    """
    pooled = setting.pooled
    parties = 1 if pooled else settings.hospitals
    size = sum(leaf.size for leaf in jax.tree.leaves(params_like))
    scheme = None
    if not pooled:
        scheme = sums(size if setting is Setting.FSCDP else size + 1)
        if scheme.trust != settings.trust:
            raise ValueError(
                "sums made an aggregation for another trust model than that of "
                f"settings: give both {settings.trust}."
            )
    plan: PrivacyPlan | SharedPlan | None = None
    steps = 1 if pooled or setting is Setting.FSCDP else settings.local_steps
    if scheme is not None and setting is Setting.FSCDP:
        _check_secure_sum(scheme, size)
        plan = settings.shared_plan()
        algorithm = dopamine(
            loss,
            plan,
            settings.learning_rate,
            scheme.codec,
            params_like,
            momentum=settings.momentum,
            backend=backend,
            physical_batch_size=physical_batch_size,
        )
        return DopamineRun(setting, algorithm, scheme, plan, settings.trust, steps)
    if setting in (Setting.CDP, Setting.FPDP):
        plan = settings.plan(parties)
        private = dataclasses.replace(
            settings.training(steps), physical_batch_size=physical_batch_size
        )
        trainer = dp_sgd(loss, private, plan)
    else:
        batch = settings.sampling_probability * settings.records / parties
        config = SgdConfig(
            settings.learning_rate,
            settings.momentum,
            batch_size=max(1, round(batch)),
            steps=steps,
            physical_batch_size=physical_batch_size,
        )
        trainer = sgd(loss, config)
    if scheme is None:
        algorithm = alone(trainer, backend)
    else:
        algorithm = _averaged(trainer, scheme, settings.hospitals, params_like, backend)
    return DopamineRun(setting, algorithm, scheme, plan, settings.trust, steps)


def _averaged(
    trainer: Trainer,
    scheme: Aggregation,
    hospitals: int,
    params_like: Params,
    backend: str,
) -> Algorithm:
    """FedAvg in which hospitals count equally, as in the authors' code."""
    client = federated(trainer, equally(hospitals))
    server = optax.sgd(1.0)
    return fedavg(client, server, scheme.codec, params_like, backend, kept(trainer))


def _check_secure_sum(scheme: Aggregation, size: int) -> None:
    if scheme.trust.decryptor is Decryptor.NOBODY_NEEDED:
        raise ValueError(
            "FSCDP needs sums of which the server reads no upload, and the decryptor "
            "of settings.trust is NOBODY_NEEDED: name who decrypts."
        )
    vector = jax.ShapeDtypeStruct((size,), jnp.float32)
    slots = jax.eval_shape(scheme.codec.encode, jax.random.key(0), vector)
    if not jnp.issubdtype(slots.dtype, jnp.floating):
        raise ValueError(
            "the Gaussian noise of FSCDP is no whole number and sums made an exact "
            "aggregation: take CKKS, or give `dopamine` a plan from `privacy.on_grid`."
        )
