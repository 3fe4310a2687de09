"""Local steps of many clients in PyTorch: plain, with torch.func, with Opacus."""

from collections.abc import Callable
from typing import Any

import cases
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch_networks import LAYOUTS, TutorialCnn, from_jax
from work import Work, fastest

Step = Callable[[Tensor, Tensor], None]

NEED_CHANNELS_FIRST = frozenset({"opacus_hooks", "opacus_ghost"})


def build(peer: str, case: dict[str, Any], threads: int) -> Work:
    """The work of `torch`, `torch_func`, `opacus_hooks` or `opacus_ghost`."""
    torch.manual_seed(0)
    clients = cases.ClientsCase(**case)
    weights = clients.parameters()
    states = [
        from_jax(
            {n: {m: a[k] for m, a in layer.items()} for n, layer in weights.items()}
        )
        for k in range(clients.clients)
    ]
    images, labels = clients.data()
    targets = torch.from_numpy(labels).long()
    layouts = ["channels first"] if peer in NEED_CHANNELS_FIRST else list(LAYOUTS)
    variants: dict[str, Callable[[], Any]] = {}
    restores = []
    for layout in layouts:
        data = LAYOUTS[layout](images), targets
        if peer == "torch_func":
            ways = functional(states, *data)
        else:
            modules = [TutorialCnn() for _ in states]
            restores.append(lambda modules=modules: _restore(modules, states))
            ways = {"loop": _loop(_STEPS[peer], modules, *data)}
        variants |= {f"{way}, {layout}": work for way, work in ways.items()}
    return fastest(
        at_most(threads, variants), lambda: [restore() for restore in restores]
    )


def at_most(
    threads: int, variants: dict[str, Callable[[], Any]]
) -> dict[str, Callable[[], Any]]:
    """Every variant on one thread, and on all threads if there are more."""

    def on(count: int, work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            torch.set_num_threads(count)
            return work()

        return run

    return {
        f"{name}, threads: {count}": on(count, work)
        for name, work in variants.items()
        for count in sorted({1, threads})
    }


def _restore(modules: list[nn.Module], states: list[dict[str, Tensor]]) -> None:
    """Sets the starting weights, so that every call starts from the same."""
    for module, state in zip(modules, states, strict=True):
        module.load_state_dict(state)


def _loop(
    make_step: Callable[[nn.Module, int], Step],
    modules: list[nn.Module],
    images: Tensor,
    labels: Tensor,
) -> Callable[[], list[nn.Module]]:
    """The steps of all clients, one after another; each has a module."""
    steps = [make_step(module, images.shape[1]) for module in modules]

    def work() -> list[nn.Module]:
        for step, *own in zip(steps, images, labels, strict=True):
            step(*own)
        return modules

    return work


def _sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=cases.CLIENT_LEARNING_RATE)


def _plain(module: nn.Module, batch: int) -> Step:
    del batch
    optimizer = _sgd(module)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return step


def _opacus_hooks(module: nn.Module, batch: int) -> Step:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    wrapped = GradSampleModule(module)
    optimizer = DPOptimizer(
        _sgd(module),
        noise_multiplier=cases.NOISE_MULTIPLIER,
        max_grad_norm=cases.CLIP_NORM,
        expected_batch_size=batch,
    )

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(wrapped(images), labels).backward()
        optimizer.step()

    return step


def _opacus_ghost(module: nn.Module, batch: int) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(
        module, max_grad_norm=cases.CLIP_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        _sgd(module),
        noise_multiplier=cases.NOISE_MULTIPLIER,
        max_grad_norm=cases.CLIP_NORM,
        expected_batch_size=batch,
    )
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.CrossEntropyLoss())

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        criterion(wrapped(images), labels).backward()
        optimizer.step()

    return step


_STEPS = {
    "torch": _plain,
    "opacus_hooks": _opacus_hooks,
    "opacus_ghost": _opacus_ghost,
}


def functional(
    states: list[dict[str, Tensor]], images: Tensor, labels: Tensor
) -> dict[str, Callable[[], Any]]:
    """DP-SGD with `torch.func`: client by client, or for all clients stacked."""
    module = TutorialCnn()
    batch = images.shape[1]

    def loss(params: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(module, params, (image.unsqueeze(0),))
        return F.cross_entropy(logits, label.unsqueeze(0))

    def clipped_sum(
        params: dict[str, Tensor], images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        each = vmap(grad(loss), (None, 0, 0))(params, images, labels)
        norms = [leaf.flatten(1).norm(2, dim=-1) for leaf in each.values()]
        norms = torch.stack(norms, dim=1).norm(2, dim=1)
        scales = (cases.CLIP_NORM / norms).clamp(max=1.0)
        return {n: torch.einsum("i,i...", scales, g) for n, g in each.items()}

    def descend(
        params: dict[str, Tensor], sums: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        deviation = cases.NOISE_MULTIPLIER * cases.CLIP_NORM
        rate = cases.CLIENT_LEARNING_RATE / batch
        return {
            name: value - rate * (sums[name] + deviation * torch.randn_like(value))
            for name, value in params.items()
        }

    @torch.no_grad()
    def loop() -> list[dict[str, Tensor]]:
        return [
            descend(params, clipped_sum(params, *own))
            for params, *own in zip(states, images, labels, strict=True)
        ]

    stacked = {name: torch.stack([s[name] for s in states]) for name in states[0]}

    @torch.no_grad()
    def ensemble() -> dict[str, Tensor]:
        return descend(stacked, vmap(clipped_sum)(stacked, images, labels))

    return {"loop": loop, "ensemble": ensemble}
