"""A module whose trainable state is one flat vector."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Array
from tacit.core.layout import Layout, Vector
from tacit.core.part import resolve
from tacit.training.task import Task

Module = nn.Module
PARAMETERS, BUFFERS = "parameters", "buffers"
"""Names of the model's segments."""
_Place = tuple[nn.Module, str, Tensor]


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
        # What no state_dict holds (persistent=False) is a constant of the code, not a state to send.
        lasting = module.state_dict(keep_vars=True)
        every = dict(module.named_buffers())
        floating = {name: b for name, b in every.items() if b.is_floating_point() and name in lasting}
        travelling = floating if buffers == "average" else {}
        _check(trainable, travelling)
        segments = {PARAMETERS: _shapes(trainable)} | ({BUFFERS: _shapes(travelling)} if travelling else {})
        self.layout = Layout.of(**segments)
        self.flat = _join([*trainable.values(), *travelling.values()])
        self.parameters = list(trainable.values())
        self.parameter_count = sum(p.numel() for p in self.parameters)
        self._places = _bind(module, [*trainable], [*travelling], self.flat)
        self.local = _join(list(floating.values())) if floating and not travelling else None
        if self.local is not None:
            self._places += _bind(module, [], [*floating], self.local)
        self._constants = [_place(module, name) for name in every if name not in floating]
        self.keep_start()
        self.has_convolution = any(isinstance(m, nn.Conv2d) for m in module.modules())

    def load(self, vector: Tensor, local: Vector | None = None) -> None:
        """Set the state to a global vector, shape (layout.size,), and the client's own buffers."""
        with torch.no_grad():
            for owner, leaf, view in (*self._places, *self._constants):
                if getattr(owner, leaf) is not view:
                    setattr(owner, leaf, view)
            self.flat.copy_(vector)
            if self.local is not None and self._first_local is not None:
                self.local.copy_(self._first_local if local is None else torch.from_numpy(local))
            for (_, _, constant), first in zip(self._constants, self._first_constants, strict=True):
                constant.copy_(first)

    @property
    def is_local(self) -> bool:
        """Whether clients keep buffers of their own, so that there is no one model to measure."""
        return self.local is not None

    def settle(self) -> None:
        """Fetch the value of every buffer that the module replaced where it could have written into it."""
        with torch.no_grad():
            for owner, leaf, view in self._places:
                current = getattr(owner, leaf)
                if current is not view:
                    view.copy_(current)
                    setattr(owner, leaf, view)

    def keep_start(self) -> None:
        """Let every client start from the local buffers and constants that the module has now.

        Counters such as num_batches_tracked are among them: they neither travel nor drift.
        """
        self._first_local = None if self.local is None else self.local.clone()
        self._first_constants = [constant.clone() for _, _, constant in self._constants]

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
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            "T221", f"cannot read the model file: {error}", where=str(path), fix="Give a .safetensors file."
        ) from None
    for name, tensor in _wanted(model.module, found):
        if name not in found or found[name].shape != tensor.shape:
            have = tuple(found[name].shape) if name in found else "nothing"
            raise DataError(
                "T222",
                f"the model file holds {have} for `{name}`, the model has shape {tuple(tensor.shape)}",
                where=str(path),
                fix="Use a file that was saved from the same model.",
            )
        with torch.no_grad():
            tensor.copy_(found[name])
    if not bool(torch.isfinite(model.flat).all()):
        raise DataError(
            "T223",
            "the model file holds values that are not finite",
            where=str(path),
            fix="Use another file.",
        )
    model.keep_start()


def _wanted(module: nn.Module, found: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield what a warm start sets: all parameters, lasting buffers, and counters if the file has them."""
    yield from module.named_parameters()
    lasting = module.state_dict(keep_vars=True)
    for name, buffer in module.named_buffers():
        if name in lasting and (buffer.is_floating_point() or name in found):
            yield name, buffer


def _check(trainable: dict[str, nn.Parameter], travelling: dict[str, Tensor]) -> None:
    if not trainable:
        raise ConfigError(
            "T122",
            "the model has no trainable parameter",
            where="$.task.model",
            fix="Set requires_grad on some.",
        )
    for name, parameter in trainable.items():
        if is_lazy(parameter):
            raise ConfigError(
                "T124",
                f"parameter `{name}` has no shape yet",
                where="$.task.model",
                fix="Call the lazy model once on an example before it is returned.",
            )
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
    for name, buffer in travelling.items():
        if not bool(torch.isfinite(buffer).all()):
            raise ConfigError(
                "T124",
                f"buffer `{name}` is not finite",
                where="$.task.model",
                fix="Register a constant such as a mask with persistent=False.",
            )


def _shapes(tensors: dict[str, nn.Parameter] | dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _join(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _bind(module: nn.Module, parameters: list[str], buffers: list[str], flat: Tensor) -> list[_Place]:
    """Make the named parameters and buffers views into ``flat``, in order; return the buffers' places."""
    start, places = 0, []
    for name in (*parameters, *buffers):
        owner, leaf, tensor = _place(module, name)
        view = flat[start : start + tensor.numel()].view(tensor.shape)
        if name in parameters:
            tensor.data = view
        else:
            setattr(owner, leaf, view)  # a registered buffer stays one, persistent or not
            places.append((owner, leaf, view))
        start += tensor.numel()
    return places


def _place(module: nn.Module, name: str) -> _Place:
    """Return the submodule that holds a tensor, the tensor's name in it, and the tensor."""
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    return owner, leaf, getattr(owner, leaf)
