"""Clients' examples as tensors on a device, kept there between rounds."""

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.core.examples import Examples
from tacit.training.executor import ClientWork
from tacit.training.tensors import tensors_of


class _Kept(NamedTuple):
    """One client's tensors, the target last, and whose they are."""

    examples: "weakref.ref[Examples]"
    tensors: tuple[Tensor, ...]
    size: int


class DeviceData:
    """Brings clients' examples to a device; the least recently used leave it first.

    Args:
        device: The device.
        most: Bytes that may stay there.
    """

    def __init__(self, device: str, most: int = 0) -> None:
        self._device, self._most, self._bytes = device, most, 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def joined(self, works: Sequence[ClientWork]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs and target of all clients, one after the other; their arrays fit together."""
        columns = zip(*(self._tensors(work) for work in works), strict=True)
        *inputs, target = (torch.cat(column) if len(column) > 1 else column[0] for column in columns)
        return tuple(inputs), target

    def _tensors(self, work: ClientWork) -> tuple[Tensor, ...]:
        kept = self._kept.get(work.client)
        if kept is not None:
            if kept.examples() is work.examples:
                self._kept.move_to_end(work.client)
                return kept.tensors
            self._drop(work.client)  # other data than in its last round
        inputs, target = tensors_of(work.examples)
        tensors = tuple(tensor.to(self._device) for tensor in (*inputs, target))
        self._keep(work, tensors)
        return tensors

    def _keep(self, work: ClientWork, tensors: tuple[Tensor, ...]) -> None:
        size = sum(tensor.nbytes for tensor in tensors)
        if size > self._most:
            return
        self._kept[work.client] = _Kept(weakref.ref(work.examples), tensors, size)
        self._bytes += size
        while self._bytes > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, client: str) -> None:
        self._bytes -= self._kept.pop(client).size
