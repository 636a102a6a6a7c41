"""What private noise costs: nanoseconds of one core for each coordinate.

``python -m benchmarks.privacy_noise``; with ``--json`` the last line is a JSON object. *Normals* are standard
draws into memory that is there; *noise* is all that a release takes: draw, scale, round to the grid, add to
the sum, round to the grid of release; *correlated* is the same with the noise of the last steps drawn again
from their keys, one draw for each band. In the same run, as references: the bare AES-256-CTR keystream of 8
bytes a coordinate, which is the floor, and torch's own ``normal_`` in float64, which nobody should rely on.

Times are this thread's processor time, the best of several, so that other work on the machine does not count.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tacit.privacy.mechanisms import BandedInverse
from tacit.privacy.noise import FreshNoise, NoiseLane, PastKeys, SystemKeys, add_noise
from tacit.privacy.noise.draws import BLOCK, Draws, NormalStream, Scratch
from tacit.privacy.noise.keystream import Keystream, Words

SIZES = (10**6, 10**7)
BANDS = (4, 16, 64)
LIMIT_NS = 6.0
BUDGET_S = 2.0
"""About how long one figure is measured."""


def nanoseconds(work: Callable[[], object], size: int) -> float:
    """Return the least processor time that a piece of work took, ns for each coordinate."""
    times: list[float] = []
    while not times or (sum(times) < BUDGET_S and len(times) < 50):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return round(min(times) / size * 1e9, 2)


def draw_keystream(words: Words) -> None:
    """Write 8 bytes of keystream for each coordinate, block by block as the noise does."""
    stream = Keystream(os.urandom(32))
    for start in range(0, len(words), BLOCK):
        stream.fill(words[start : start + BLOCK])


def draw_normals(out: Draws) -> None:
    """Write standard normals."""
    stream, scratch = NormalStream(os.urandom(32)), Scratch(len(out))
    for start in range(0, len(out), BLOCK):
        stream.fill(out[start : start + BLOCK], 1.0, scratch)


def correlated_noise(bands: int) -> FreshNoise:
    """Return the noise of a step that has a full past."""
    mechanism, keys, past = BandedInverse(bands=bands), SystemKeys(), PastKeys()
    for step in range(bands):
        past = past.advance(keys.key(step, "update"), mechanism.kept_keys(bands))
    return past.noise_for_step(mechanism, bands)


def measure_size(size: int) -> dict[str, float]:
    """Measure all figures for sums of that many coordinates."""
    import torch

    torch.set_num_threads(1)
    floats, total = np.empty(size), np.zeros(size, dtype=np.int64)
    lanes = (NoiseLane(size, 2.0**-50, 1.0),)
    tensor = torch.from_numpy(floats)
    figures = {
        "aes_ctr": nanoseconds(lambda: draw_keystream(total), size),
        "torch_normal": nanoseconds(tensor.normal_, size),
        "normals": nanoseconds(lambda: draw_normals(floats), size),
    }
    total[:] = 0
    figures["noise"] = nanoseconds(
        lambda: add_noise(total, lanes, FreshNoise((SystemKeys().key(0, "update"),))), size
    )
    for bands in BANDS:
        noise = correlated_noise(bands)
        figures[f"correlated_{bands}"] = nanoseconds(lambda noise=noise: add_noise(total, lanes, noise), size)  # type: ignore[misc]
    return figures


def measure() -> dict[str, Any]:
    """Measure every size."""
    return {
        "limit_ns": LIMIT_NS,
        "ns_per_coordinate": {f"{size:.0e}".replace("+0", ""): measure_size(size) for size in SIZES},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description="Measure what private noise costs.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(arguments)
    figures = measure()
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
