"""What laws are tried on: rows of honest and hostile clients."""

import numpy as np
from hypothesis import strategies as st

from tacit.core.layout import Rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext

SIZE = 12
"""Coordinates of the rows that laws are tried on."""

_KINDS = ("honest", "zero", "tiny", "large", "spike", "nan", "inf")


@st.composite
def rows(draw: st.DrawFn, *, kinds: tuple[str, ...] = _KINDS, size: int = SIZE) -> Rows:
    """Draw rows of one to six clients, shape (clients, size), each of some kind."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.stack([_row(kind, rng, size) for kind in chosen])


def sound_rows(size: int = SIZE) -> st.SearchStrategy[Rows]:
    """Draw rows as a device lets them out: finite and within the coordinate limit."""
    return rows(kinds=("honest", "zero", "tiny", "large", "spike"), size=size)


def spec() -> UpdateSpec:
    """Return the spec of these rows: parameters, buffers and a metric."""
    return UpdateSpec.of(parameters=SIZE - 3, buffers=2, metrics=1)


def context(clients: int, entered: UpdateSpec | None = None) -> StageContext:
    """Return a context for so many clients, of very different sizes."""
    examples = np.array([1, 7, 600, 5, 10**12, 64][:clients], dtype=np.int64)
    return StageContext(entered or spec(), 0, 3, tuple(f"client-{i}" for i in range(clients)), examples)


def _row(kind: str, rng: np.random.Generator, size: int) -> Rows:
    row = rng.standard_normal(size).astype(np.float32)
    match kind:
        case "zero":
            row[:] = 0.0
        case "tiny":
            row *= np.float32(1e-40)  # denormal
        case "large":
            row *= np.float32(100.0)
        case "spike":
            row[rng.integers(size)] = 1000.0
        case "nan":
            row[rng.integers(size)] = np.nan
        case "inf":
            row[rng.integers(size)] = -np.inf
        case _:
            pass
    return row
