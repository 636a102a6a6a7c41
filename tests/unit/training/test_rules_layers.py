"""Every layer, with a rule or without: what it learns is what torch learns."""

import numpy as np
import pytest
import torch

from tacit.training.rules import RulesExecutor
from tests.unit.training.rules_cases import (
    RAGGED,
    as_a_stack,
    by_torch,
    executor,
    group,
    in_float64,
    in_order_of,
    is_stackable,
)
from tests.unit.training.rules_models import ALONE, STACKED

# A batch of one example has no variance: there torch itself refuses the client.
SIZES = {"batch norm": (6, 3)}
EVERY = {**STACKED, **ALONE}


@pytest.mark.parametrize("name", EVERY)
def test_a_group_learns_what_torch_teaches_each_client(name: str) -> None:
    kind, model = EVERY[name]
    works = group(kind, SIZES.get(name, RAGGED))
    runner, vector, _ = executor(model)
    train = as_a_stack if name in STACKED else RulesExecutor.train
    found, right = train(runner, vector, works), by_torch(model, works)
    np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=0)
    assert len(right.clients) == len(works)
    assert is_stackable(runner) == (name in STACKED)


# Torch's own executor knows no float64 and trains two of these; the third draws other numbers in float64.
@pytest.mark.parametrize("name", sorted({*EVERY} - {"own function", "own gradient", "gru, dropout"}))
def test_in_float64_the_rules_are_exact(name: str) -> None:
    kind, model = EVERY[name]
    works = group(kind, SIZES.get(name, RAGGED))
    runner, vector, _ = executor(model, dtype=torch.float64)
    found = runner.train(vector, works)
    right = in_float64(model, works)
    np.testing.assert_allclose(in_order_of(found, [w.client for w in works]), right, atol=1e-10, rtol=0)
    assert np.abs(right[:, :-1]).max() > 1e-3
