"""A module whose trainable state is one flat vector."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Array
from tacit.core.layout import Layout, Vector
from tacit.core.part import resolve
from tacit.training.task import Task

Module = nn.Module
PARAMETERS, BUFFERS = "parameters", "buffers"
"""Names of the model's segments."""


class FlatModel:
    """A module whose trainable parameters (and buffers) are views into one float32 tensor.

    Loading a global vector is one copy, and an update one subtraction. Frozen parameters do not
    travel: every process builds them alike, from the same seed.

    Attributes:
        module: The module itself.
        layout: Names and shapes in the flat vector.
        parameters: The trainable parameters, views into ``flat``.
        flat: All that travels, shape (layout.size,).
        local: Floating-point buffers that stay with the client, or None; shape (size,).
        has_convolution: Whether channels-last inputs pay.
    """

    def __init__(self, module: nn.Module, *, buffers: str = "average") -> None:
        self.module = module
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        floating = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
        _check(module, trainable)
        travelling = floating if buffers == "average" else {}
        segments = {PARAMETERS: _shapes(trainable)} | ({BUFFERS: _shapes(travelling)} if travelling else {})
        self.layout = Layout.of(**segments)
        self.flat = _join([*trainable.values(), *travelling.values()])
        self.parameters = list(trainable.values())
        self.parameter_count = sum(p.numel() for p in self.parameters)
        _bind(module, [*trainable], [*travelling], self.flat)
        self.local = _join(list(floating.values())) if floating and not travelling else None
        if self.local is not None:
            _bind(module, [], [*floating], self.local)
        self._initial_local = None if self.local is None else self.local.clone()
        # Counters such as num_batches_tracked neither travel nor drift: every client starts from the first.
        self._counters = [(b, b.clone()) for b in module.buffers() if not b.is_floating_point()]
        self.has_convolution = any(isinstance(m, nn.Conv2d) for m in module.modules())

    def load(self, vector: Tensor, local: Vector | None = None) -> None:
        """Set the state to a global vector, shape (layout.size,), and the client's own buffers."""
        with torch.no_grad():
            self.flat.copy_(vector)
            if self.local is not None and self._initial_local is not None:
                self.local.copy_(self._initial_local if local is None else torch.from_numpy(local))
            for counter, initial in self._counters:
                counter.copy_(initial)

    def load_vector(self, vector: Vector) -> None:
        """Set the state to a global vector, as NumPy has it."""
        self.load(torch.from_numpy(vector))

    def state(self) -> dict[str, Array]:
        """Return everything that ``module.load_state_dict`` wants, as NumPy arrays, by name."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.module.state_dict().items()}

    def vector(self) -> Vector:
        """Return a copy of the state as a flat NumPy vector."""
        return self.flat.detach().numpy().copy()


def build(task: Task, seed: int) -> FlatModel:
    """Build the task's model under a seed, and load its warm start if it has one.

    Raises:
        ConfigError: The model is no module, has nothing to train, or is not float32.
        DataError: The warm start does not fit the model.
    """
    factory = resolve(task.model) if isinstance(task.model, str) else task.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = factory(**task.arguments)
    if not isinstance(module, nn.Module):
        raise ConfigError(
            "T121",
            f"the model callable returned {type(module).__name__}, not a torch.nn.Module",
            where="$.task.model",
            fix="Return a module; pass the function itself, not its result.",
        )
    model = FlatModel(module, buffers=task.buffers)
    if task.initial is not None:
        load_tensors(model, task.initial)
    return model


def load_tensors(model: FlatModel, path: Path) -> None:
    """Load a ``.safetensors`` file into the model.

    Raises:
        DataError: The file is missing or damaged, or its names or shapes differ from the model's.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            "T221", f"cannot read the model file: {error}", where=str(path), fix="Give a .safetensors file."
        ) from None
    vector = model.vector()
    for segment in model.layout.segments:
        for name, view in model.layout.views(vector, segment.name).items():
            if name not in found or found[name].shape != view.shape:
                have = found[name].shape if name in found else "nothing"
                raise DataError(
                    "T222",
                    f"the model file holds {have} for `{name}`, the model has shape {view.shape}",
                    where=str(path),
                    fix="Use a file that was saved from the same model.",
                )
            view[...] = found[name]
    if not np.isfinite(vector).all():
        raise DataError(
            "T223",
            "the model file holds values that are not finite",
            where=str(path),
            fix="Use another file.",
        )
    model.load(torch.from_numpy(vector))


def _check(module: nn.Module, trainable: dict[str, nn.Parameter]) -> None:
    if not trainable:
        raise ConfigError(
            "T122",
            "the model has no trainable parameter",
            where="$.task.model",
            fix="Set requires_grad on some.",
        )
    for name, parameter in trainable.items():
        if parameter.dtype != torch.float32:
            raise ConfigError(
                "T123",
                f"parameter `{name}` is {parameter.dtype}, not torch.float32",
                where="$.task.model",
                fix="Train in float32: call .float() on the model.",
            )
        if not bool(torch.isfinite(parameter).all()):
            raise ConfigError(
                "T124",
                f"parameter `{name}` is not finite",
                where="$.task.model",
                fix="Initialise every parameter.",
            )


def _shapes(tensors: dict[str, nn.Parameter] | dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _join(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _bind(module: nn.Module, parameters: list[str], buffers: list[str], flat: Tensor) -> None:
    """Make the named parameters and buffers views into ``flat``, in order."""
    start = 0
    for name in (*parameters, *buffers):
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        tensor = getattr(owner, leaf)
        view = flat[start : start + tensor.numel()].view(tensor.shape)
        if name in parameters:
            tensor.data = view
        else:
            setattr(owner, leaf, view)  # a registered buffer stays one, persistent or not
        start += tensor.numel()
