"""Runs one round over many clients and prints the peak of resident memory in GiB.

python simulate_many.py MODEL CLIENTS EXAMPLES plain|private
"""

import sys
from pathlib import Path

import jax
import numpy as np

import fedjax_private
from fedjax_private import aggregation, algorithms, clients, models, simulation
from fedjax_private.datasets import ClientData, Normalization
from fedjax_private.privacy import (
    FlatClipping,
    GaussianNoise,
    PoissonSampling,
    PrivacyPlan,
)
from fedjax_private.privacy.accounting import Neighbors
from fedjax_private.trust import Decryptor, Trust


def peak_gigabytes() -> float:
    """This process' own; `ru_maxrss` starts at that of whichever process made it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("this system does not tell a process' peak memory.")


def main(name: str, count: int, examples: int, private: bool) -> None:
    """Simulates a round; images are bytes until a client normalises its own."""
    fedjax_private.use_all_cores()
    model = models.build(
        name, input_shape=(28, 28, 1), num_classes=10, normalization=Normalization()
    )
    generator = np.random.default_rng(0)
    shape = (count, examples, 28, 28, 1)
    data = ClientData(
        generator.integers(0, 256, shape, np.uint8),
        generator.integers(0, 10, shape[:2]).astype(np.int32),
        np.ones(shape[:2], bool),
    )
    plan = PrivacyPlan(
        PoissonSampling(0.5),
        FlatClipping(1.0),
        GaussianNoise(1.0),
        examples / 2,
        Neighbors.ADD_REMOVE,
    )
    trainer = (
        clients.dp_sgd(model.loss, clients.DpSgdConfig(0.1), plan)
        if private
        else clients.sgd(model.loss, clients.SgdConfig(0.1, batch_size=20))
    )
    params = model.init(jax.random.key(0))
    trust = Trust(uploads=count, decryptor=Decryptor.NOBODY_NEEDED)
    size = models.parameter_count(params) + 1
    sums = aggregation.make("none", vector_size=size, trust=trust)
    fedavg = algorithms.fedavg(
        clients.federated(trainer, clients.equally(count)),
        algorithms.server_optimizer("sgd", 1.0),
        sums.codec,
        params,
    )
    nothing = simulation.Evaluation(np.zeros(1), np.zeros(1))
    (done,) = simulation.simulate(
        fedavg,
        sums,
        data,
        params,
        simulation.cohorts(0, 1, count),
        simulation.root_keys(0),
        evaluate=lambda params: nothing,
    )
    assert done.report is not None and done.report.uploads == count
    print(f"{done.seconds_train:.1f} s {peak_gigabytes():.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "private")
