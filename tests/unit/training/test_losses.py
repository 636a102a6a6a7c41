"""Losses by name, for every shape of target, and the fused cross-entropy over many classes."""

import pytest
import torch
from torch import Tensor, nn

from tacit.core.errors import ConfigError
from tacit.training.losses import LOSSES, cross_entropy, loss_of

WIDE = 1500


def value_and_gradient(loss: object, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, labels)  # type: ignore[operator]
    return value.detach(), torch.autograd.grad(value * 3.0, leaf)[0]


def same_as_torch(logits: Tensor, labels: Tensor) -> None:
    found = value_and_gradient(cross_entropy, logits, labels)
    wanted = value_and_gradient(nn.functional.cross_entropy, logits, labels)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("classes", [10, 1023, 1024, WIDE])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_cross_entropy_is_torchs_on_both_sides_of_the_fused_one(classes: int, scale: float) -> None:
    torch.manual_seed(0)
    same_as_torch(torch.randn(6, classes) * scale, torch.randint(0, classes, (6,)))


@pytest.mark.parametrize("ignored", [[0], [1, 3], [0, 1, 2, 3, 4]])
def test_ignored_targets_count_neither_in_the_value_nor_in_the_gradient(ignored: list[int]) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, WIDE, (6,))
    labels[ignored] = -100
    same_as_torch(torch.randn(6, WIDE), labels)


@pytest.mark.parametrize("shape", [(4, WIDE), (2, 3, 10), (2, 3, WIDE)])
def test_a_batch_of_nothing_but_padding_costs_and_moves_nothing(shape: tuple[int, ...]) -> None:
    value, gradient = value_and_gradient(cross_entropy, torch.randn(shape), torch.full(shape[:-1], -100))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("extreme", [1e4, 3e38, -3e38])
def test_extreme_logits_overflow_nothing(extreme: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, WIDE)
    logits[0, 3] = logits[1, 7] = extreme
    logits[2] = extreme
    same_as_torch(logits, torch.tensor([3, 4, 5, 6]))


@pytest.mark.parametrize("classes", [10, WIDE])
@pytest.mark.parametrize("label", [-1, -99, 10**6])
def test_a_label_that_is_no_class_is_refused(classes: int, label: int) -> None:
    labels = torch.tensor([0, label])
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        cross_entropy(torch.randn(2, classes, requires_grad=True), labels)


def test_the_fused_gradient_is_right_by_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 1024, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([5, -100, 1023])
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), logits)
    nudge = torch.zeros_like(logits)
    for row, column in ((0, 5), (0, 6), (1, 3), (2, 1023)):
        nudge.zero_()[row, column] = 1e-5
        slope = (cross_entropy(logits + nudge, labels) - cross_entropy(logits - nudge, labels)) / 2e-5
        assert gradient[row, column].item() == pytest.approx(slope.item(), abs=1e-8)


def test_the_fused_loss_goes_through_a_whole_model_like_torchs() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, WIDE)
    x, y = torch.randn(5, 4), torch.randint(0, WIDE, (5,))
    ours = torch.autograd.grad(cross_entropy(layer(x), y), list(layer.parameters()))
    torchs = torch.autograd.grad(nn.functional.cross_entropy(layer(x), y), list(layer.parameters()))
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("classes", [5, WIDE])
def test_sequences_take_classes_last_or_in_torchs_own_place(classes: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, classes), torch.randint(0, classes, (3, 7))
    labels[0, 4:] = -100
    wanted = nn.functional.cross_entropy(logits.movedim(-1, 1), labels)
    last = cross_entropy(logits.clone().requires_grad_(), labels)
    torch.testing.assert_close(last, wanted)
    torch.testing.assert_close(cross_entropy(logits.movedim(-1, 1), labels), wanted)


def test_images_take_torchs_own_shape() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    torch.testing.assert_close(cross_entropy(logits, labels), nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_binary_cross_entropy_takes_one_logit_with_or_without_an_axis(shape: tuple[int, ...]) -> None:
    logits, labels = torch.linspace(-3, 3, 6), torch.tensor([0, 1, 0, 1, 1, 0])
    wanted = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    torch.testing.assert_close(LOSSES["binary_cross_entropy"](logits.reshape(shape), labels), wanted)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mse", lambda d: (d**2).mean()),
        ("l1", lambda d: d.abs().mean()),
        ("huber", lambda d: torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5).mean()),
    ],
)
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_regression_losses_are_their_formulas(
    name: str, wanted: object, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    outputs, targets = torch.tensor([0.5, -2.0, 3.0, 1.0]), torch.tensor([0, 1, 3, -4]).to(dtype)
    torch.testing.assert_close(
        LOSSES[name](outputs.reshape(shape), targets),
        wanted(outputs - targets),  # type: ignore[operator]
    )


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "binary_cross_entropy"])
def test_outputs_and_targets_that_do_not_fit_are_never_broadcast(name: str) -> None:
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        LOSSES[name](torch.zeros(4, 2), torch.zeros(4))


def test_a_loss_is_a_name_an_address_or_a_function() -> None:
    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    assert loss_of("mse") is LOSSES["mse"]
    assert loss_of("torch.nn.functional:l1_loss") is nn.functional.l1_loss
    assert loss_of(own) is own


def test_an_unknown_loss_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="crossentropy") as caught:
        loss_of("crossentropy")
    assert (caught.value.code, caught.value.where) == ("T106", "$.task.loss")
    assert "cross_entropy, binary_cross_entropy" in caught.value.fix
