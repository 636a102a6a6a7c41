"""How tacit uses torch in a process that may not be its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_one_thread() -> None:
    """Let torch compute in one thread from now on.

    What a second thread gains on small batches it loses in waiting; processes use the other cores.
    """
    torch.set_num_threads(1)


@contextmanager
def borrowed_torch() -> Iterator[None]:
    """Compute in one thread, then restore the caller's number of threads and random state."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
