"""These models are small: a second thread would only wait."""

from collections.abc import Iterator

import pytest

from tacit.training.threads import borrowed_torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with borrowed_torch():
        yield
