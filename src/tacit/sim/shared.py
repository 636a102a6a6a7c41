"""Memory shared with worker processes: anonymous, so that nothing is left behind whatever is killed."""

import io
import mmap
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64


class SharedBlock:
    """A block of memory behind a file descriptor that can be handed to child processes.

    It has no name: when the last process that maps it ends, it is gone.

    Args:
        size: Bytes.
        handle: The descriptor, in a process that was handed it; None makes a new block.
    """

    def __init__(self, size: int, handle: int | None = None) -> None:
        self.size = size
        self.handle = _anonymous_file(size) if handle is None else handle
        self._map = mmap.mmap(self.handle, max(size, 1))

    def array(self, dtype: npt.DTypeLike, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """Return a view of ``count`` numbers from ``offset`` bytes on, shape (count,)."""
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset)

    def view(self, start: int, size: int) -> memoryview:
        """Return a view of some bytes."""
        return memoryview(self._map)[start : start + size]

    def close(self) -> None:
        """Let the descriptor go; the memory lives while arrays still look at it."""
        os.close(self.handle)


def _anonymous_file(size: int) -> int:
    if sys.platform == "linux":
        handle = os.memfd_create("tacit", 0)
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, max(size, 1))
    return handle


class Parcel:
    """A value packed for worker processes: its large arrays lie in shared memory, once for all of them.

    Memory-mapped arrays, and contiguous parts of such, travel as their file's name and are mapped again.

    Args:
        value: Anything that pickles; functions of a script or a notebook travel by value.
    """

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        stream = io.BytesIO()
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        self.pickled = stream.getvalue()
        raw = [buffer.raw() for buffer in buffers]
        starts = np.cumsum([0, *(-(-len(part) // _ALIGNMENT) * _ALIGNMENT for part in raw)]).tolist()
        self.spans = [(start, len(part)) for start, part in zip(starts, raw, strict=False)]
        self.block = SharedBlock(starts[-1])
        for (start, size), part in zip(self.spans, raw, strict=True):
            self.block.view(start, size)[:] = part

    def open(self) -> Any:
        """Return the value, looking into the shared memory."""
        return unpack(self.pickled, self.spans, self.block)


def unpack(pickled: bytes, spans: Sequence[tuple[int, int]], block: SharedBlock) -> Any:
    """Return a parcel's value in a process that was handed its block."""
    return pickle.loads(pickled, buffers=[block.view(*span) for span in spans])  # noqa: S301 - our own parent's


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            place = _place(value)
            if place is not None:
                return _map_again, (*place, value.dtype, value.shape, _order(value))
        return super().reducer_override(value)


def _place(array: npt.NDArray[Any]) -> tuple[str, int] | None:
    """Return where in which file an array lies; None if it is not, or not as it stands, in one."""
    whole: Any = array
    while isinstance(whole.base, np.ndarray):  # a part's own offset is that of the whole
        whole = whole.base
    if not isinstance(whole, np.memmap) or not isinstance(whole.base, mmap.mmap) or whole.filename is None:
        return None
    # What was written to a private map ("c") is in no file.
    if whole.mode == "c" or not array.size or not (array.flags.c_contiguous or array.flags.f_contiguous):
        return None
    return str(whole.filename), whole.offset + array.ctypes.data - whole.ctypes.data


def _order(array: npt.NDArray[Any]) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _map_again(path: str, offset: int, dtype: Any, shape: tuple[int, ...], order: Any) -> npt.NDArray[Any]:
    return np.memmap(path, dtype=dtype, mode="r", shape=shape, offset=offset, order=order)
