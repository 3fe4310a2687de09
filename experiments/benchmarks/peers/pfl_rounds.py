"""A round of federated averaging with pfl (pfl-research)."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel
from torch import Tensor
from torch_clients import at_most
from torch_networks import LAYOUTS, RoundCnn, from_jax
from work import Work, fastest


class _Model(RoundCnn):
    """The network with the methods that pfl needs."""

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self(images), labels)

    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Any]:
        raise NotImplementedError("a round does not evaluate")


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `pfl`."""
    del peer
    what = cases.RoundCase(**case)
    images, labels = what.data()
    targets = torch.from_numpy(labels).long()
    module, start = _Model(), from_jax(what.parameters())
    variants = {
        f"loop, {layout}": _round(what, module, arranged(images), targets)
        for layout, arranged in LAYOUTS.items()
    }
    return fastest(at_most(threads, variants), lambda: module.load_state_dict(start))


def _round(
    case: cases.RoundCase, module: _Model, images: Tensor, labels: Tensor
) -> Callable[[], PyTorchModel]:
    model = PyTorchModel(
        module,
        torch.optim.SGD,
        torch.optim.SGD(module.parameters(), lr=cases.SERVER_LEARNING_RATE),
    )

    def shuffled(user: int) -> PyTorchTensorDataset:
        # pfl cuts a user's data into batches in their order.
        order = torch.randperm(case.examples)
        return PyTorchTensorDataset((images[user][order], labels[user][order]))

    users = get_user_sampler("minimize_reuse", list(range(case.clients)))
    dataset = FederatedDataset(shuffled, users)
    backend = SimulatedBackend(dataset, dataset, [WeightByDatapoints()])
    training = NNTrainHyperParams(
        local_batch_size=case.batch,
        local_num_epochs=case.epochs,
        local_learning_rate=cases.ROUND_LEARNING_RATE,
    )
    algorithm = _started_algorithm()
    numbers = itertools.count(2)

    def work() -> PyTorchModel:
        params = NNAlgorithmParams(
            central_num_iterations=next(numbers),
            evaluation_frequency=2**62,
            train_cohort_size=case.clients,
            val_cohort_size=None,
        )
        return algorithm.run(
            params, backend, model, training, send_metrics_to_platform=False
        )

    return work


def _started_algorithm() -> FederatedAveraging:
    """The algorithm after iteration 0, in which pfl always evaluates."""
    algorithm = FederatedAveraging()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "algorithm_checkpoint.json"
        state.write_text('{"current_central_iteration": 1}')
        algorithm.load(folder)
    return algorithm
