"""A program's dropout is checked against torch's own, given the same numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task
from tacit.training.drawn_torch import DrawnTorchExecutor
from tacit.training.executors import Recipe, build_executor
from tacit.training.export import export_program
from tacit.training.flat import build

LOCAL = LocalSGD(lr=0.1, epochs=2, batch_size=4, momentum=0.5)


def dropping() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 6), nn.Dropout(0.2), nn.Linear(6, 2)
    )


def alpha() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.SELU(), nn.AlphaDropout(0.4), nn.Linear(8, 2))


class Image(nn.Module):
    """Drops whole channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Conv2d(1, 6, 2), nn.Dropout2d(0.5), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        image = torch.cat([x, x[:, :4]], dim=1).reshape(-1, 1, 3, 3)
        out: Tensor = self.last(self.drop(self.first(image)).flatten(1))
        return out


def works() -> list[ClientWork]:
    rng = np.random.default_rng(0)
    return [
        ClientWork(
            f"c{i}",
            Examples.of(rng.standard_normal((size, 5)).astype(np.float32), rng.integers(0, 2, size)),
            3,
        )
        for i, size in enumerate((11, 8, 3))
    ]


def recipe(model: Callable[[], nn.Module], kind: str) -> Recipe:
    task = Task(model=model)
    built = build(task, 1)
    program = export_program(task, built, LOCAL, LocalTerms(), works()[0].examples, kind)  # type: ignore[arg-type]
    programs = {"stacked" if kind == "stacked" else "onnx": program.data}
    return Recipe(task, built.layout, LOCAL, LocalTerms(), 5, lambda: built, programs)


@pytest.mark.parametrize("kind", ["stacked", "step"])
@pytest.mark.parametrize("model", [dropping, alpha, Image])
def test_a_program_trains_as_torch_does_with_the_same_draws(
    model: Callable[[], nn.Module], kind: str
) -> None:
    made = recipe(model, kind)
    vector = made.model().vector()
    program = build_executor("stacked" if kind == "stacked" else "onnx", made).train(vector, works())
    drawn = DrawnTorchExecutor(made, works()[0].examples).train(vector, works())
    other = build_executor("torch", made).train(vector, works())
    assert program.clients == drawn.clients == ("c0", "c1", "c2")
    np.testing.assert_allclose(program.rows, drawn.rows, rtol=1e-3, atol=1e-6)
    assert np.abs(drawn.rows - other.rows).max() > 1e-3


def test_without_draws_it_is_plain_torch_bit_for_bit() -> None:
    made = recipe(lambda: nn.Linear(5, 2), "step")
    vector = made.model().vector()
    drawn = DrawnTorchExecutor(made, works()[0].examples).train(vector, works())
    assert np.array_equal(drawn.rows, build_executor("torch", made).train(vector, works()).rows)


def test_a_client_that_raises_leaves_torch_as_it_was() -> None:
    made = recipe(dropping, "step")
    executor, vector = DrawnTorchExecutor(made, works()[0].examples), made.model().vector()
    first, *others = works()
    misfit = ClientWork("misfit", Examples.of(np.zeros((4, 9), np.float32), np.zeros(4, int)), 3)
    found = executor.train(vector, [first, misfit, *others])
    assert list(found.failures) == ["misfit"]
    assert np.array_equal(found.rows, executor.train(vector, works()).rows)
    assert not _get_current_dispatch_mode_stack()
    assert not made.model().module._forward_hooks  # noqa: SLF001 - it has no public name
