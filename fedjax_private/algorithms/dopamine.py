"""Dopamine: hospitals split the noise of central DP-SGD ("semi-central DP").

Malekzadeh, Hasircioglu, Mital, Katarya, Ozfatura, Gunduz, "Dopamine: Differentially
Private Federated Learning on Medical Data", PPAI 2021 (arXiv 2101.11693). In every
round each of m hospitals draws a Poisson sample B_k of its records, all with the same
q, and takes one step of DP-SGD with a share of the noise. A secure sum shows the server
the total alone, and the server takes a step with momentum:

    u_k = sum_{i in B_k} clip_C(grad l_i(x)) + N(0, sigma^2 C^2 / m I),
    g   = (u_1 + ... + u_m) / q N,
    v  <- beta v + g,    x <- x - eta v.

The paper compares five settings. Each is an arm of a run here; the last column is the
variance that one sigma leaves in the mean gradient over q N expected records of a step:

    C       centralized      pooled records, SGD            none
    F       fl               FedAvg                         none
    CDP     centralized_dp   pooled records, DP-SGD         sigma^2 C^2 / (q N)^2
    FPDP    fl_dp            FedAvg of DP-SGD, local noise  m sigma^2 C^2 / (q N)^2
    FSCDP   private_ai       the formulas above             sigma^2 C^2 / (q N)^2

Checked against the authors' public code (github.com/ipc-lab/private-ml-for-health) and
the report in its folder `report`, of October 2020, which precedes the paper: sampling,
clipping, momentum, averaging and the five settings are its Algorithm 1 and section 4.3.
Its line 13 prints a share of variance sigma^2 C^2 / sqrt(m); its Lemma 1 and the code
have sigma^2 C^2 / m, which also gives the epsilon of its figure, 10.9 after 3,000
steps. The text of the arXiv version was not available.

Changed, and why:
- In their code every hospital keeps its own momentum, and the server averages weights.
  Here the server keeps the momentum. By linearity that is the same where all hospitals
  take every step, and hospitals send one noisy sum of bounded sensitivity.
- In their code a hospital with an empty sample returns the weights unchanged, without
  its share of the noise. Here every upload carries its share.
- In their code each hospital divides by its own batch, and hospitals count equally.
  Here the sum is divided by the public q N, so that all records count the same.
- In their code all hospitals have the one secret key, so that a colluder of one of them
  reads every upload. Here `Trust` says who decrypts, and both epsilons follow it.
- In their code hospitals send the weights of the last round unencrypted, so that the
  server sees single shares of the noise. Here every upload goes through the secure sum.

Formal guarantees: for a record, n rounds are `SharedPlan.event(n)`: n Poisson-sampled
Gaussian mechanisms of noise multiplier sigma against everybody who sees the released
sums only, the server included, and of sigma sqrt(t / m) against the server together
with all hospitals but t, if they cannot decrypt uploads. Each sum must hold m uploads,
and hospitals must add their shares; see `SharedPlan`.
"""

import optax

from fedjax_private.aggregation.types import Codec
from fedjax_private.algorithms.algorithm import Algorithm
from fedjax_private.algorithms.distributed_dp_sgd import distributed_dp_sgd
from fedjax_private.algorithms.entry import AlgorithmEntry, Task, Training
from fedjax_private.algorithms.prices import shared_price
from fedjax_private.clients.local_dp_sgd import DpSgdConfig
from fedjax_private.privacy.shares import SharedPlan
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
) -> Algorithm:
    """Returns the algorithm of the setting FSCDP.

    Args:
        loss: of each example.
        plan: from `privacy.shared`, against outsiders, with all hospitals in each sum;
            its expected batch size is q N.
        learning_rate: eta, positive and finite.
        codec: of the aggregation, whose vectors have the params' size.
        params_like: params or their shapes.
        momentum: beta, in [0, 1); 0.9 in the authors' code.
        backend: see `for_each_client`.

    Formal guarantees: those of `SharedPlan`; the server's step is post-processing.

    Raises:
        ValueError: a value outside these ranges.
    """
    DpSgdConfig(learning_rate, momentum)  # checks both
    return distributed_dp_sgd(
        loss,
        plan,
        optax.sgd(learning_rate, momentum or None),
        codec,
        params_like,
        backend=backend,
    )


def _of_task(task: Task) -> Algorithm:
    values = task.hyperparameters
    return dopamine(
        task.model.loss,
        task.plan,
        values.learning_rate,
        task.sums,
        task.params_like,
        momentum=values.momentum,
        backend=task.backend,
    )


DOPAMINE = AlgorithmEntry(
    "dopamine",
    "hospitals that split the noise of central DP-SGD (Malekzadeh et al. 2021)",
    _of_task,
    arms=("private_ai",),
    training=Training.SHARED,
    size=lambda parameters: parameters,
    defaults={"averaging": None},
    price=lambda terms, settings: shared_price(terms),
)
