"""Clients' examples in one process: kept between rounds where they stay the same, or fetched ahead."""

import mmap
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from tacit.core.examples import Array, Examples
from tacit.data import Population

_OVERHEAD = 1024  # bytes that a client costs beside its numbers


class Client(NamedTuple):
    """One client's data.

    Attributes:
        id: Its id.
        examples: Its training examples, read-only.
    """

    id: str
    examples: Examples


class ClientData:
    """Loads clients' training examples, and keeps those that are the same whenever they are asked for.

    The least recently used go first. A client that cannot be loaded is asked again the next time.

    Args:
        population: All clients.
        most: Bytes that may be kept, and as many again fetched ahead.
    """

    def __init__(self, population: Population, most: int) -> None:
        self._population, self._most = population, most
        self._kept: OrderedDict[int, Client] = OrderedDict()
        self._ahead: dict[int, Client] = {}
        self._bytes = self._bytes_ahead = 0

    def client(self, position: int) -> Client:
        """Return one client's data.

        Raises:
            Exception: Whatever the client's own data code raises.
        """
        found = self._kept.get(position)
        if found is not None:
            self._kept.move_to_end(position)
            return found
        found = self._ahead.pop(position, None)
        if found is not None:
            self._bytes_ahead -= _size(found)
            return found
        found = self._load(position)
        if self._population.is_steady:
            self._keep(position, found)
        return found

    def fetch(self, position: int) -> bool:
        """Load a client ahead of its use where that cannot be spared; return whether there is room for more.

        What the client raises is raised when it is used.
        """
        if self._population.is_steady or position in self._ahead:
            return True
        try:
            found = self._load(position)
        except MemoryError:
            return False
        except (Exception, SystemExit):  # noqa: BLE001 - a client's own code may do anything
            return True
        self._ahead[position] = found
        self._bytes_ahead += _size(found)
        return self._bytes_ahead < self._most

    def forget_fetched(self, but: Collection[int] = ()) -> None:
        """Drop what was fetched and not used, ``but`` some clients'."""
        self._ahead = {position: self._ahead[position] for position in but if position in self._ahead}
        self._bytes_ahead = sum(map(_size, self._ahead.values()))

    def _load(self, position: int) -> Client:
        return Client(self._population.ids[position], guarded(self._population.train(position)))

    def _keep(self, position: int, client: Client) -> None:
        size = _size(client)
        if size > self._most:
            return
        self._kept[position] = client
        self._bytes += size
        while self._bytes > self._most:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)


def guarded(examples: Examples) -> Examples:
    """Return the examples read-only: a model may change its inputs in place, and gets a copy to do so.

    Otherwise a client would find other data in its next round than after a resume.
    """
    for array in (*examples.inputs, examples.target):
        if array.flags.writeable:
            return Examples(tuple(map(_read_only, examples.inputs)), _read_only(examples.target))
    return examples


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _size(client: Client) -> int:
    arrays = (*client.examples.inputs, client.examples.target)
    return _OVERHEAD + sum(map(_bytes_behind, arrays))


def _bytes_behind(array: Array) -> int:
    """Return how much memory an array holds: all that it is a view of, but no mapped file."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    base = owner.base.obj if isinstance(owner.base, memoryview) else owner.base
    return 0 if isinstance(base, mmap.mmap) else int(owner.nbytes)
