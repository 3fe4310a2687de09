"""Training without federation: every client alone on its own shard.

The baseline "without FL" of the paper's Table 3. With a single client that holds all
data it is centralised training, and with DP-SGD inside it is the centralised DP of
Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.
"""

from fedjax_private.algorithms.algorithm import Algorithm, client_phase
from fedjax_private.algorithms.entry import AlgorithmEntry, Task, Training
from fedjax_private.algorithms.prices import local_price
from fedjax_private.clients.training import Trainer, TrainState, check_trainer
from fedjax_private.clients.updates import ClientOutput
from fedjax_private.datasets.clients import ClientData
from fedjax_private.typing import ClientKeys


def alone(trainer: Trainer, backend: str = "auto") -> Algorithm:
    """Returns the algorithm of clients that each train a model of their own.

    A client's state is its model and its optimiser's state; nothing is aggregated.

    Raises:
        ValueError: it is no trainer.
    """
    check_trainer(trainer)

    def client_update(
        broadcast: None, state: TrainState, data: ClientData, keys: ClientKeys
    ) -> tuple[ClientOutput, TrainState]:
        trained, metrics = trainer.run(state, data, keys)
        return ClientOutput((), metrics), trained

    return Algorithm(
        init=lambda params: (),
        init_client=trainer.init,
        client_phase=client_phase(client_update, None, backend, lambda state: None),
        server_phase=None,
        models=lambda state, client_states: client_states.params,
    )


def _of_task(task: Task) -> Algorithm:
    usual = "sgd" if task.plan is None else "dp_sgd"
    return alone(task.trainer(usual), task.backend)


LOCAL = AlgorithmEntry(
    "local",
    "every client alone on its own shard; with one client, centralised training",
    _of_task,
    arms=("centralized", "centralized_dp", "local"),
    training=Training.DP_SGD,
    price=lambda terms, settings: local_price(terms),
    takes_client=True,
    ignores=("epsilon_against",),
)
