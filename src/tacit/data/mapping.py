"""Clients given one by one: arrays, Datasets, or functions that load them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Array, Examples
from tacit.core.randomness import generator
from tacit.data.ids import Named
from tacit.data.shares import taken
from tacit.data.table import Rows

_FORMS = "Pass Examples, (x, y), ((x1, x2), y), a Dataset of (x, y) items, or a function that returns one."


@dataclass(frozen=True, eq=False)
class MappingHoldings:
    """Clients whose data is given one by one, in any of the forms of ``Population.of``.

    Attributes:
        ids: The clients.
        data: Their data, in the order of ``ids``.
        central: The central test set, in any of the forms, or None.
        share: Share of each client's examples that is held out.
        said: Examples each client is said to have, -1 where nothing was said; shape (clients,).
        seed: Seed of the choice of held-out examples.
    """

    ids: Sequence[str]
    data: tuple[Any, ...]
    central: Any
    share: float
    said: Rows
    seed: int

    @classmethod
    def of(
        cls,
        clients: Mapping[str, Any],
        *,
        test: Any,
        holdout: float,
        sizes: Mapping[str, int] | None,
        seed: int,
    ) -> "MappingHoldings":
        """Check the arguments of ``Population.of``."""
        if not 0 <= holdout < 1:
            what = f"holdout must be at least 0 and below 1, not {holdout}"
            raise ConfigError("T104", what, where="holdout", fix="Write for example 0.2.")
        strangers = sorted(set(sizes or {}) - set(clients))
        if strangers:
            what = f"sizes has {len(strangers)} ids that are no clients, the first {strangers[0]!r}"
            raise ConfigError("T104", what, where="sizes", fix="Use the keys of clients.")
        absurd = [name for name, size in (sizes or {}).items() if not 0 <= size < 2**53]
        if absurd:
            what = f"sizes gives client {absurd[0]!r} {sizes[absurd[0]] if sizes else 0} examples"
            raise ConfigError("T104", what, where="sizes", fix="Give a whole number of at least 0.")
        for name, data in clients.items():
            _check_form(data, f"client {name!r}")
        said = [(sizes or {}).get(name, _known_size(data)) for name, data in clients.items()]
        names = Named(np.array(list(clients), dtype=np.str_))
        return cls(names, tuple(clients.values()), test, holdout, np.array(said, np.int64), seed)

    @property
    def has_holdout(self) -> bool:
        return self.share > 0

    @cached_property
    def is_steady(self) -> bool:
        return all(isinstance(data, Examples) or _is_arrays(data) for data in self.data)

    @cached_property
    def sizes(self) -> Rows:
        known = [n if n >= 0 else self._counted(index) for index, n in enumerate(self.said)]
        counts = np.array(known, np.int64)
        return counts - taken(counts, self.share)

    def train(self, index: int) -> Examples:
        examples = self._load(index)
        return examples.take(~self._kept_back(index, len(examples))) if self.has_holdout else examples

    def holdout(self, index: int) -> Examples | None:
        if not self.has_holdout:
            return None
        examples = self._load(index)
        chosen = self._kept_back(index, len(examples))
        return examples.take(chosen) if chosen.any() else None

    def target(self, index: int) -> Array:
        return self.train(index).target

    def test(self) -> Examples | None:
        return None if self.central is None else _load(self.central, "the test set")

    def _kept_back(self, index: int, size: int) -> Any:
        rng = generator(self.seed, "data", "holdout", self.ids[index])
        chosen = np.zeros(size, bool)
        chosen[rng.permutation(size)[: int(taken(np.array([size]), self.share)[0])]] = True
        return chosen

    def _load(self, index: int) -> Examples:
        where = f"client {self.ids[index]!r}"
        examples = _load(self.data[index], where)
        if self.said[index] >= 0 and len(examples) != self.said[index]:
            what = f"the client claims {self.said[index]} examples but has {len(examples)}"
            fix = "Correct sizes, or what the client's function loads."
            raise DataError("T203", what, where=where, fix=fix)
        return examples

    def _counted(self, index: int) -> int:
        """Load a client to count its examples; one that cannot be loaded counts none and fails later."""
        try:
            return len(self._load(index))
        except MemoryError:
            raise  # this machine's trouble, not the client's
        except (Exception, SystemExit):  # noqa: BLE001 - a client's own data code may do anything
            return 0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "sizes" or self.said.min() < 0}


def _is_dataset(data: Any) -> bool:
    plain = isinstance(data, tuple | str | bytes | Mapping) or hasattr(data, "dtype")
    return not plain and hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _is_arrays(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 2 and hasattr(data[1], "__len__")


def _is_function(data: Any) -> bool:
    return callable(data) and not isinstance(data, Examples) and not _is_dataset(data)


def _check_form(data: Any, where: str) -> None:
    if not (isinstance(data, Examples) or _is_arrays(data) or _is_dataset(data) or _is_function(data)):
        raise DataError("T204", f"{type(data).__name__} is no client's data", where=where, fix=_FORMS)


def _known_size(data: Any) -> int:
    """Return how many examples there are, or -1 if only a call would tell."""
    if _is_function(data):
        return -1
    return len(data[1]) if isinstance(data, tuple) else len(data)


def _load(data: Any, where: str) -> Examples:
    """Turn any of the forms into examples; what a function or a Dataset raises itself goes its way."""
    if _is_function(data):
        data = data()
        if _is_function(data):
            raise DataError("T204", "the client's function returns a function", where=where, fix=_FORMS)
    _check_form(data, where)
    items = [data[index] for index in range(len(data))] if _is_dataset(data) else None
    try:
        return _in_single_precision(_arrays(data) if items is None else _stacked(items))
    except (ValueError, TypeError, IndexError, KeyError):
        # The library's own message may quote the data.
        what = "the examples cannot be stacked into arrays"
        raise DataError("T204", what, where=where, fix=f"Give all of them one shape. {_FORMS}") from None


def _arrays(data: Any) -> Examples:
    return data if isinstance(data, Examples) else Examples.of(data[0], data[1])


def _stacked(items: Sequence[Any]) -> Examples:
    if not items:
        return Examples.of(np.zeros((0, 0), np.float32), np.zeros(0, np.int64))
    inputs = [item[0] if isinstance(item[0], tuple) else (item[0],) for item in items]
    columns = zip(*inputs, strict=True)
    return Examples(tuple(_stack(column) for column in columns), _stack([item[1] for item in items]))


def _stack(values: Sequence[Any]) -> Array:
    return np.stack([np.asarray(value) for value in values])


def _in_single_precision(examples: Examples) -> Examples:
    arrays = [_single(array) for array in (*examples.inputs, examples.target)]
    if any(array.dtype.kind not in "biuf" for array in arrays):
        raise TypeError("not numbers")
    return Examples(tuple(arrays[:-1]), arrays[-1])


def _single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array
