"""The order in which a client passes over its examples."""

import numpy as np
import numpy.typing as npt

from tacit.core.randomness import generator


def epoch_order(
    seed: int, round_number: int, client: str, epoch: int, examples: int
) -> npt.NDArray[np.int64]:
    """Return the order in which a client passes over its examples in one epoch of one round."""
    return generator(seed, round_number, "client", client, "shuffle", epoch).permutation(examples)
