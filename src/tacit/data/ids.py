"""Client ids that are made when asked for: a hundred thousand clients cost no list of strings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """The ids of clients that have no names of their own.

    >>> ids = Numbered(100)
    >>> ids[7], ids.index("client-07"), len(ids)
    ('client-07', 7, 100)
    """

    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(self._name(i) for i in range(self.size)[index])
        return self._name(index if 0 <= index < self.size else range(self.size)[index])

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the position of an id; ``ValueError`` if it is none of these."""
        digits = str(value).removeprefix("client-")
        if digits.isdecimal() and int(digits) < self.size and self._name(int(digits)) == value:
            return int(digits)
        raise ValueError("no such id")

    def _name(self, index: int) -> str:
        return self._pattern % index

    @cached_property
    def _pattern(self) -> str:
        return f"client-%0{len(str(self.size - 1))}d"


@dataclass(frozen=True, eq=False)
class Named(Sequence[str]):
    """The ids of clients that have names, kept as one NumPy array of text.

    >>> ids = Named(np.array(["basel", "zurich"]))
    >>> ids[1], ids.index("basel")
    ('zurich', 0)
    """

    names: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(str(name) for name in self.names[index])
        return str(self.names[index])

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the position of an id; ``ValueError`` if it is none of these."""
        try:
            return self._positions[value]
        except KeyError:
            raise ValueError("no such id") from None

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {str(name): index for index, name in enumerate(self.names)}

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (self.names,)  # without the table of positions
