"""All clients, opened: who they are, how much each holds, and their examples when asked for."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.examples import Array, Examples
from tacit.data.summary import PopulationSummary, summarise

Sizes = npt.NDArray[np.int64]


class Holdings(Protocol):
    """Where a population's examples come from; values that pickle, and read only."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def sizes(self) -> Sizes: ...
    @property
    def has_holdout(self) -> bool: ...
    @property
    def is_steady(self) -> bool:
        """Whether examples are the same whenever they are asked for."""
        ...

    def train(self, index: int) -> Examples: ...
    def holdout(self, index: int) -> Examples | None: ...
    def target(self, index: int) -> Array:
        """Return the training target alone, without the cost of the inputs where that can be had."""
        ...

    def test(self) -> Examples | None: ...


class Population:
    """All clients of a run.

    It pickles (protocol 5 hands large arrays over as buffers), may be read by several processes, and holds
    nothing per client but small arrays: a client's examples are made when asked for.

    >>> people = {"ann": (np.zeros((3, 2)), np.array([0, 1, 1])), "bob": (np.ones((2, 2)), np.array([0, 0]))}
    >>> population = Population.of(people)
    >>> len(population), population.sizes, population.ids[1], len(population.train(0))
    (2, array([3, 2]), 'bob', 3)

    Raises:
        DataError: There is no client.
    """

    def __init__(self, holdings: Holdings) -> None:
        if not len(holdings.ids):
            fix = "Name at least one client."
            raise DataError("T202", "the population is empty", where="$.population", fix=fix)
        self._holdings = holdings

    @classmethod
    def of(
        cls,
        clients: Mapping[str, Any],
        *,
        test: Any = None,
        holdout: float = 0.0,
        sizes: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> "Population":
        """Build from any mapping of client id to that client's data.

        Args:
            clients: For each client ``Examples``, arrays ``(x, y)`` or ``((x1, x2), y)``, a map-style Dataset
                (``len(d)`` and ``d[i] -> (x, y)``), or a function without arguments that returns one of them:
                it is called whenever the client's data is needed, in any process.
            test: The central test set, in any of these forms.
            holdout: Share of each client's examples kept for evaluation on the client.
            sizes: How many examples each client has, where its data is made by a function; those missing are
                loaded as soon as any size is asked for.
            seed: Seed of the choice of held-out examples.

        Doubles become float32, as models are; everything else stays as it is.

        Raises:
            DataError: No client, or data of none of these forms.
            ConfigError: ``holdout`` is not at least 0 and below 1, or ``sizes`` names nobody of ``clients``.
        """
        from tacit.data.mapping import MappingHoldings  # local: it shares this module's words

        return cls(MappingHoldings.of(clients, test=test, holdout=holdout, sizes=sizes, seed=seed))

    @property
    def ids(self) -> Sequence[str]:
        """The clients' ids, in order; made when asked for."""
        return self._holdings.ids

    @property
    def sizes(self) -> Sizes:
        """Training examples of each client (without held-out ones), shape (clients,)."""
        return self._holdings.sizes

    @property
    def has_holdout(self) -> bool:
        """Whether clients keep examples for evaluation."""
        return self._holdings.has_holdout

    @property
    def is_steady(self) -> bool:
        """Whether clients' examples are the same whenever they are asked for, so that they may be kept.

        What a function or a Dataset makes may differ from one time to the next.
        """
        return bool(getattr(self._holdings, "is_steady", False))  # other packages may not know the word

    @cached_property
    def test(self) -> Examples | None:
        """The central test set, loaded on first use."""
        return self._holdings.test()

    def __len__(self) -> int:
        return len(self._holdings.ids)

    def __repr__(self) -> str:
        return f"Population({len(self)} clients)"

    def train(self, index: int) -> Examples:
        """Return the training examples of one client; none at all if it has no data.

        Raises:
            DataError: The client has another number of examples than was said.
            IndexError: There is no such client.
        """
        return self._holdings.train(self._checked(index))

    def holdout(self, index: int) -> Examples | None:
        """Return the examples that one client keeps for evaluation, or None if it keeps none.

        Raises:
            DataError: The client has another number of examples than was said.
            IndexError: There is no such client.
        """
        return self._holdings.holdout(self._checked(index))

    def index(self, client_id: str) -> int:
        """Return the position of a client.

        Raises:
            DataError: There is no client of that id.
        """
        try:
            return self.ids.index(client_id)
        except ValueError:
            fix = "`population.ids` are the known ones."
            what = f"there is no client {client_id!r}"
            raise DataError("T205", what, where="population", fix=fix) from None

    def summary(self, *, clients: int = 1000) -> PopulationSummary:
        """Return who holds what, of at most that many clients (evenly spaced among all)."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(clients, len(self))).astype(np.int64))
        targets = [self._holdings.target(int(index)) for index in chosen]
        return summarise(tuple(self.ids[int(index)] for index in chosen), targets, self.sizes)

    def __getstate__(self) -> dict[str, Any]:
        return {"_holdings": self._holdings}  # without the test set that was loaded here

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"client {index} of {len(self)}")
        return int(index)
