"""A single update gives its example away, and clipping with noise takes it back."""

import math

import numpy as np
import pytest
from torch import nn

from tacit.core.errors import RunError
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.privacy.audit import closest, likeness
from tacit.training import ClientWork, Task
from tacit.training.flat import FlatModel, build
from tacit.training.inversion import Inversion, Range
from tacit.training.torch_executor import TorchExecutor

PIXELS = Range(0.0, 1.0)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(8 * 64, 10),
    )  # fmt: skip


def regression() -> nn.Module:
    return nn.Linear(7, 1)


def image(seed: int = 0) -> Examples:
    """One smooth image with a bright stroke."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:8, 0:8]
    middle = rng.uniform(2, 5, 2)
    stroke = np.exp(-((rows - middle[0] - 0.5 * columns + 1.5) ** 2) / 3)
    return Examples.of(stroke[None, None].astype(np.float32), np.array([int(rng.integers(0, 10))]))


def update_of(task: Task, model: FlatModel, examples: Examples, **local: float) -> np.ndarray:
    start = model.vector()
    settings = LocalSGD(**{"lr": 0.1, "batch_size": "all", **local})
    executor = TorchExecutor(task, model, settings, LocalTerms(), 0)
    row = executor.train(start, [ClientWork("ann", examples, 1)]).rows[0]
    model.load_vector(start)
    return row[: len(start)].copy()


def protected(update: np.ndarray, noise_multiplier: float, seed: int = 0) -> np.ndarray:
    """Clip to norm one and add noise."""
    noise = np.random.default_rng(seed).standard_normal(len(update))
    return (update / np.linalg.norm(update) + noise_multiplier * noise).astype(np.float32)


@pytest.mark.parametrize("local", [{}, {"steps": 5}, {"momentum": 0.9, "steps": 3}])
def test_a_first_linear_layer_gives_a_single_example_away_exactly(local: dict[str, float]) -> None:
    task, example = Task(model=perceptron), image()
    model = build(task, 1)
    attack = Inversion(task, model, model.vector(), example, PIXELS)
    found = attack.invert(update_of(task, model, example, **local), example.target)
    assert found.method == "linear"
    assert likeness(example.inputs[0], found.inputs[0], PIXELS.width).psnr > 60


def test_clipping_alone_hides_nothing() -> None:
    task, example = Task(model=perceptron), image()
    model = build(task, 1)
    update = update_of(task, model, example)
    attack = Inversion(task, model, model.vector(), example, PIXELS)
    found = attack.invert(protected(update, 0.0), example.target)
    assert likeness(example.inputs[0], found.inputs[0], PIXELS.width).psnr > 60


def test_noise_hides_the_example_and_more_noise_hides_it_better() -> None:
    task, model = Task(model=perceptron), build(Task(model=perceptron), 1)
    similarities = []
    for noise_multiplier in (0.001, 0.05, 1.0):
        each = []
        for seed in range(10):
            example = image(seed)
            attack = Inversion(task, model, model.vector(), example, PIXELS)
            update = protected(update_of(task, model, example), noise_multiplier, seed)
            found = attack.invert(update, example.target).inputs[0]
            each.append(likeness(example.inputs[0], found, PIXELS.width).correlation)
        similarities.append(np.mean(each))
    assert similarities[0] > 0.95
    assert similarities[0] > similarities[1] > similarities[2]
    assert similarities[2] < 0.35


def test_a_client_with_several_examples_gives_some_of_them_away() -> None:
    task = Task(model=perceptron)
    model = build(task, 2)
    images = [image(seed) for seed in range(3)]
    batch = Examples.of(
        np.concatenate([one.inputs[0] for one in images]), np.concatenate([one.target for one in images])
    )
    attack = Inversion(task, model, model.vector(), batch, PIXELS)
    found = attack.read(update_of(task, model, batch))
    assert found is not None
    best = max(
        likeness(one.inputs[0], closest(one.inputs[0][0], found.inputs), PIXELS.width).correlation
        for one in images
    )
    assert best > 0.95


def test_a_tabular_record_is_read_off_a_regression() -> None:
    task = Task(model=regression, loss="mse")
    model = build(task, 0)
    example = Examples.of(np.linspace(-2, 2, 7, dtype=np.float32)[None], np.array([3.0], np.float32))
    attack = Inversion(task, model, model.vector(), example, Range(-3.0, 3.0))
    found = attack.invert(update_of(task, model, example), example.target)
    assert found.inputs[0] == pytest.approx(example.inputs[0][0], abs=1e-3)


def test_a_convolution_is_inverted_by_optimisation_until_noise_is_added() -> None:
    task, example = Task(model=convolution), image(3)
    model = build(task, 3)
    attack = Inversion(task, model, model.vector(), example, PIXELS)
    update = update_of(task, model, example)
    assert attack.read(update) is None
    open_ = attack.invert(update, example.target, steps=250)
    hidden = attack.invert(protected(update, 1.0), example.target, steps=250)
    assert open_.method == "gradient"
    before = likeness(example.inputs[0], open_.inputs, PIXELS.width)
    after = likeness(example.inputs[0], hidden.inputs, PIXELS.width)
    assert before.correlation > 0.95
    assert after.correlation < before.correlation - 0.4
    assert after.psnr < before.psnr - 5


def test_an_update_of_zeros_says_nothing() -> None:
    task, example = Task(model=perceptron), image()
    model = build(task, 1)
    attack = Inversion(task, model, model.vector(), example, PIXELS)
    found = attack.invert(np.zeros_like(model.vector()), example.target)
    assert found.inputs[0] == pytest.approx(0.5)
    assert likeness(example.inputs[0], found.inputs[0], PIXELS.width).correlation == 0.0


def test_a_model_over_words_is_refused() -> None:
    task = Task(model=lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)))
    model = build(task, 0)
    with pytest.raises(RunError) as caught:
        Inversion(task, model, model.vector(), Examples.of(np.zeros((1, 3), np.int64), np.zeros(1)), PIXELS)
    assert caught.value.code == "T350"


def test_a_copy_is_exact_and_a_flat_guess_is_like_nothing() -> None:
    original = np.linspace(0, 1, 16)
    same = likeness(original, original, PIXELS.width)
    assert (same.mse, same.psnr, same.correlation) == (0.0, math.inf, pytest.approx(1.0))
    assert likeness(original, np.full(16, 0.5), PIXELS.width).correlation == 0.0
