"""The executor for GPUs: many clients in one call of the model's own code, on any device of torch's."""

import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from tacit.core.examples import Examples
from tacit.core.layout import Rows, Vector
from tacit.core.local import LocalSGD
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork, Failure, Trained, UnsupportedError, update_spec
from tacit.training.flat import FlatModel
from tacit.training.functional_device import Device, exactly
from tacit.training.functional_training import StackTraining
from tacit.training.packing import MisfitError, Signature, signature_of
from tacit.training.task import Task

_TRIED, _LONGEST = 2, 300  # examples; characters of an error of torch's that are shown
_CPU = Device()


class FunctionalExecutor:
    """Trains all clients of a group at once: ``torch.vmap`` of the model's own code, and one backward pass.

    Clients of different sizes are padded, and the padding's loss is left out; where that cannot be done (a
    loss of the user's own, statistics over a batch) those whose batches have one size are trained together.
    Each row depends on its own client alone, up to rounding. Where the call of a group raises, its clients
    are trained one by one. Dropout draws the numbers that an exported program is given.

    Args:
        task: What is learned.
        model: The task's model; its state is left alone.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.
        device: Where to compute.

    Raises:
        UnsupportedError: The model has buffers that training changes.
    """

    def __init__(
        self,
        task: Task,
        model: FlatModel,
        local: LocalSGD,
        terms: LocalTerms,
        seed: int,
        device: Device = _CPU,
    ) -> None:
        self._model, self._device = model, device
        self._spec = update_spec(model.layout)
        self._stack = StackTraining(task, model, local, terms, seed, device)

    @property
    def spec(self) -> UpdateSpec:
        return self._spec

    def try_out(self, examples: Examples) -> None:
        """Do one step with a few examples, which also prepares the device.

        Raises:
            UnsupportedError: It cannot be done; the message says what torch said.
        """
        work = ClientWork("", examples.take(slice(0, _TRIED)), round=0, max_steps=1)
        try:
            with self._ready():
                self._stack.train(self._sent(self._model.vector()), [work])
        except (UnsupportedError, MemoryError):
            raise
        except Exception as error:  # a model's own code, and torch, may raise anything
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UnsupportedError(f"many clients in one call: {said[:_LONGEST]}") from error

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        rows = np.empty((len(group), self._spec.size), dtype=np.float32)
        failures = {work.client: Failure("no data") for work in group if not len(work.examples)}
        with self._ready():
            start = self._sent(vector)
            for places in _alike(group):
                failures |= self._train_places(start, group, places, rows)
        done = [place for place, work in enumerate(group) if work.client not in failures]
        return Trained(
            tuple(group[place].client for place in done),
            rows if len(done) == len(group) else rows[done],
            tuple(len(group[place].examples) for place in done),
            failures,
        )

    def _train_places(
        self, start: Tensor, group: Sequence[ClientWork], places: list[int], rows: Rows
    ) -> dict[str, Failure]:
        """Train clients together, or one by one if that raises, and write their rows; return who failed."""
        try:
            rows[places] = self._stack.train(start, [group[place] for place in places])
            return {}
        except MemoryError:
            raise  # this machine's trouble, not a client's
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"the memory of {self._device} is used up") from error
        except (
            Exception,
            SystemExit,
        ) as error:  # a client's data may do anything: whose it was is found out now
            if _is_devices(error):
                raise
            if len(places) == 1:
                failure = Failure(f"raised {type(error).__name__}", traceback.format_exc())
                return {group[places[0]].client: failure}
        failures: dict[str, Failure] = {}
        for place in places:
            failures |= self._train_places(start, group, [place], rows)
        return failures

    def _sent(self, vector: Vector) -> Tensor:
        return torch.tensor(vector, device=self._device.name)  # a copy: the vector is the caller's

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Put the model into training mode, and torch into the state that the device wants."""
        self._model.module.train()
        with warnings.catch_warnings(), nullcontext() if self._device.is_cpu else exactly():
            # What vmap has no rule for it does client by client: calibration sees how long that takes.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            yield


def _alike(group: Sequence[ClientWork]) -> list[list[int]]:
    """Return the places of clients that can be trained together: those whose examples have one shape."""
    found: dict[Signature | int, list[int]] = {}
    for place, work in enumerate(group):
        if len(work.examples):
            found.setdefault(_shape_of(work, place), []).append(place)
    return list(found.values())


def _shape_of(work: ClientWork, place: int) -> Signature | int:
    try:
        return signature_of(work.examples)
    except MisfitError:  # no numbers: fails by itself
        return place


def _is_devices(error: BaseException) -> bool:
    """Tell whether an error is the device's: after it nothing can be computed there any more."""
    lost = getattr(torch, "AcceleratorError", None)  # since torch 2.8; before, by its words
    return (lost is not None and isinstance(error, lost)) or str(error).startswith("CUDA error")
