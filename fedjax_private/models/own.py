"""Models of the user's own, as entries: modules, their classes, functions."""

import dataclasses
import functools
import inspect
from typing import Any

import flax.linen as nn
from flax import nnx

from fedjax_private.faults import with_place
from fedjax_private.models.entry import Activation, ModelEntry
from fedjax_private.models.network import AnyModule

_MODULES = (nn.Module, nnx.Module)


@dataclasses.dataclass(frozen=True)
class OwnModule:
    """The `build` of a user's module, its class, or a function that makes it.

    A value with equality: entries of one attribute are equal, so that runs share
    compiled code.
    """

    name: str
    attribute: Any

    def __hash__(self) -> int:  # modules with lists in their fields have none
        return hash(self.name)

    def __call__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        activation: Activation | None,
        settings: Any,
    ) -> AnyModule:
        """Returns the module for inputs of a shape; see `ModelEntry.build`."""
        attribute = self.attribute
        if isinstance(attribute, _MODULES):
            return attribute
        sizes = {"input_shape": input_shape, "num_classes": num_classes}
        if isinstance(attribute, type):
            constructor = self.attribute.__init__  # past the metaclass of nnx
            signature = inspect.signature(functools.partial(constructor, None))
            named = {k: v for k, v in sizes.items() if k in signature.parameters}
            make = functools.partial(attribute, **named)
        else:
            signature = inspect.signature(attribute)
            named, make = {}, functools.partial(attribute, *sizes.values())
        keys = {"rngs": nnx.Rngs(0)} if "rngs" in signature.parameters else {}
        try:
            signature.bind(*make.args, **named, **keys)
        except TypeError as error:
            raise ValueError(
                f"model {self.name}: {error}; name a function of input_shape and "
                "num_classes, and of the keyword rngs if it likes, that returns the "
                "module."
            ) from error
        if keys:
            return make  # makes the module anew for each key
        try:
            module = make()
        except Exception as error:
            raise ValueError(
                f"model {self.name} failed with input_shape={input_shape} and "
                f"num_classes={num_classes} ({with_place(error)})."
            ) from error
        if not isinstance(module, _MODULES):
            raise ValueError(
                f"model {self.name} must return a Flax module, got "
                f"{type(module).__name__}."
            )
        return module


def adapted(name: str, attribute: Any) -> ModelEntry:
    """Returns the entry of a user's Flax module, its class, or a function of sizes.

    Raises:
        ValueError: it is none of these.
    """
    is_class = isinstance(attribute, type)
    if not (issubclass(attribute, _MODULES) if is_class else callable(attribute)):
        raise ValueError(
            f"model {name} must be a ModelEntry, a Flax module, its class, or a "
            f"function of input_shape and num_classes, got {attribute!r}."
        )
    return ModelEntry(name, name, OwnModule(name, attribute))
