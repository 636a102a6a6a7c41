"""The workloads W1 to W4 on which simulation is timed: data and cohorts; their models are beside them.

* ``w1`` across devices: a small CNN on images, 1000 users, 50 a round.
* ``w2`` tabular: a tiny MLP, 10,000 users of very unequal size, 500 a round.
* ``w3`` keyboard: a GRU with a tied embedding of 10,000 words, 1000 users, 50 a round.
* ``w4`` is ``w1`` with every user's update clipped and Gaussian noise on the sum.

Everything follows from fixed seeds. The data is drawn once and kept as .npy files that are memory mapped, so
that several processes share one copy through the page cache.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Users = npt.NDArray[np.int64]

VOCABULARY, SEQUENCE = 10_000, 20
DATA_SEED, FIRST_COHORT_SEED = 1234, 10_000


@dataclass(frozen=True)
class Workload:
    """One federated training run: plain SGD, one local epoch a round, updates averaged by examples.

    With ``clip`` every update is cut to that L2 norm and weighs 1, and the sum of a round receives Gaussian
    noise with a standard deviation of ``clip * noise_multiplier``.
    """

    name: str
    users: int
    cohort: int
    batch_size: int
    lr: float
    rounds: int
    clip: float | None = None
    noise_multiplier: float = 0.0


class UserData(NamedTuple):
    """The examples of all users, one after another: user ``u`` owns ``offsets[u]`` to ``offsets[u + 1]``."""

    x: Array
    y: Array
    offsets: Array

    def user(self, user: int) -> tuple[Array, Array]:
        """Return one user's examples as views of the files."""
        start, end = int(self.offsets[user]), int(self.offsets[user + 1])
        return self.x[start:end], self.y[start:end]

    def sizes(self) -> Array:
        """Count the examples of every user."""
        return np.diff(self.offsets)


_W1 = Workload("w1", users=1000, cohort=50, batch_size=10, lr=0.1, rounds=6)

WORKLOADS: dict[str, Workload] = {
    "w1": _W1,
    "w2": Workload("w2", users=10_000, cohort=500, batch_size=10, lr=0.1, rounds=54),
    "w3": Workload("w3", users=1000, cohort=50, batch_size=10, lr=0.5, rounds=4),
    "w4": replace(_W1, name="w4", clip=1.0, noise_multiplier=0.5),
}


def cohort(name: str, round: int) -> Users:
    """Return the users of a round, the same for every system that is measured."""
    workload = WORKLOADS[name]
    rng = np.random.default_rng(FIRST_COHORT_SEED + round)
    return rng.choice(workload.users, workload.cohort, replace=False)


def load(name: str) -> UserData:
    """Map the workload's data into memory; the first call draws it and keeps it in ``data_folder()``."""
    base, folder = base_of(name), data_folder()
    paths = [folder / f"{base}_{part}.npy" for part in UserData._fields]
    # The offsets are written last: where they are, the rest is.
    if not paths[-1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(paths, _draw(base), strict=True):
            _save(path, array)
    return UserData(*(np.load(path, mmap_mode="r") for path in paths))


def data_folder() -> Path:
    """Return the folder of the data files: ``TACIT_BENCH_DATA``, else one below the user's cache."""
    return Path(os.environ.get("TACIT_BENCH_DATA") or Path.home() / ".cache" / "tacit" / "bench")


def base_of(name: str) -> str:
    """Return the workload whose data and model this one has."""
    return "w1" if name == "w4" else name


def _save(path: Path, array: Array) -> None:
    """Write an array whole or not at all: two processes may start together."""
    partial = path.with_name(f"{path.stem}.{os.getpid()}.npy")
    np.save(partial, array)
    partial.replace(path)


def _draw(name: str) -> UserData:
    draw = {"w1": _draw_images, "w2": _draw_table, "w3": _draw_words}[name]
    return draw(np.random.default_rng(DATA_SEED), WORKLOADS[name].users)


def _draw_images(rng: np.random.Generator, users: int) -> UserData:
    sizes = np.full(users, 50)
    examples = int(sizes.sum())
    y = rng.integers(0, 10, examples)
    prototypes = rng.standard_normal((10, 3, 32, 32)).astype(np.float32)
    x = rng.standard_normal((examples, 3, 32, 32)).astype(np.float32)
    x *= 0.5
    x += 0.25 * prototypes[y]
    return UserData(x, y.astype(np.int64), _offsets(sizes))


def _draw_table(rng: np.random.Generator, users: int) -> UserData:
    sizes = np.clip(np.rint(rng.lognormal(np.log(17), 0.55, users)), 3, 100).astype(np.int64)
    examples = int(sizes.sum())
    x = rng.standard_normal((examples, 30)).astype(np.float32)
    y = x @ rng.standard_normal(30) + 0.5 * rng.standard_normal(examples) > 0
    return UserData(x, y.astype(np.int64), _offsets(sizes))


def _draw_words(rng: np.random.Generator, users: int) -> UserData:
    sizes = rng.integers(40, 81, users)
    words = (rng.zipf(1.3, (int(sizes.sum()), SEQUENCE + 1)) - 1) % VOCABULARY
    return UserData(words[:, :-1].copy(), words[:, 1:].astype(np.int64), _offsets(sizes))


def _offsets(sizes: Array) -> Array:
    return np.concatenate([[0], np.cumsum(sizes)])
