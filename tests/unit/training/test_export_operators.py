"""Operators that models are written with, many in one model: each is what it is in PyTorch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unit.training.programs import CLASSES, Case, largest_difference, stacked_difference

WIDTH = 8
EXACT = 1e-5
Function = Callable[[Tensor], Tensor]


class Several(nn.Module):
    """The sum of what functions of one hidden layer give; each gives at least three columns."""

    def __init__(self, *functions: Function) -> None:
        super().__init__()
        self.first, self.functions = nn.Linear(4, WIDTH), functions

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return torch.stack([f(hidden).flatten(1)[:, :CLASSES] for f in self.functions]).mean(0)


class Branches(nn.Module):
    """Layers side by side, and a linear one over all that they give."""

    def __init__(self, size: int, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.out = nn.ModuleList(layers), nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.cat([layer(x).flatten(1) for layer in self.layers], dim=1))
        return out


def written(x: Tensor) -> Tensor:
    """Write into parts of a tensor."""
    x = x.clone()
    x[:, 0] = 0.5
    x[:, 2:4] *= 2
    return x


def written_far(x: Tensor) -> Tensor:
    grid = x.view(-1, 2, 4).clone()
    grid[:, :, ::2] = -grid[:, :, 1::2]
    return grid


FUNCTIONS: dict[str, tuple[Function, ...]] = {
    "elementwise": (
        lambda x: x.abs() ** 1.5,
        lambda x: x**3,
        lambda x: 2.0**x,
        torch.exp2,
        lambda x: 1 - x,
        lambda x: x.abs().log1p(),
        torch.expm1,
        lambda x: torch.log2(x.abs() + 1),
        lambda x: torch.log10(x.abs() + 1),
        lambda x: (x.abs() + 1).rsqrt(),
        lambda x: x.clamp(-0.1, 0.3),
        lambda x: x.clamp_min(0.1),
        lambda x: x.clamp(max=0.2),
        lambda x: x + torch.div(x, 0.3, rounding_mode="floor"),
        lambda x: x + torch.div(x, 0.3, rounding_mode="trunc"),
        lambda x: x % 0.3,
        lambda x: x.fmod(0.3),
        lambda x: x * (torch.arange(WIDTH) // 3 % 2),
        lambda x: x.double().mul(2).float(),
        lambda x: x.masked_fill((x < 0) | ~(x < 1), 0.5),
        lambda x: torch.maximum(x, x.flip(1)),
        lambda x: torch.where(x != 0, x, -x),
        lambda x: x.square().sqrt(),
        lambda x: x * ((x > 0) & (x < 1)).logical_or(x.isnan()),
        lambda x: x * torch.ones(WIDTH).cumsum(0),
    ),
    "along-an-axis": (
        lambda x: x - x.logsumexp(1, keepdim=True),
        lambda x: x / x.std(dim=1, keepdim=True),
        lambda x: x * x.var(1, keepdim=True),
        lambda x: functional.normalize(x, dim=1),
        lambda x: x * x.norm(p=1, dim=1, keepdim=True),
        lambda x: x * x.norm(p=3, dim=1, keepdim=True),
        lambda x: x * x.norm(p=torch.inf, dim=1, keepdim=True),
        lambda x: x.cumsum(1),
        lambda x: x * x.max(1, keepdim=True)[0],
        lambda x: x * x.min(1, keepdim=True)[0],
        lambda x: x * x.amax(1, keepdim=True),
        lambda x: x * x.argmax(1, keepdim=True),
        lambda x: x.sort(1)[0],
        lambda x: x.topk(3, 1)[0],
        lambda x: x * functional.one_hot(x.argmin(1), WIDTH),
        lambda x: functional.softmin(x, 1),
        lambda x: x * (x > 0).all(1, keepdim=True),
    ),
    "shapes": (
        written,
        written_far,
        lambda x: x.roll(2, 1),
        lambda x: x.flip(1),
        lambda x: functional.pad(x, (1, 1)),
        lambda x: torch.stack(x.chunk(2, 1), 2),
        lambda x: x.split([3, 5], 1)[0],
        lambda x: x.repeat(1, 2)[:, 6:9],
        lambda x: x.repeat_interleave(2, 1)[:, 5:9],
        lambda x: x[:, [0, 3, 5]],
        lambda x: x.view(-1, 2, 4)[:, [0, 1, 1], [3, 0, 2]],
        lambda x: x.view(-1, 2, 4)[:, None, :, [3, 0]],
        lambda x: torch.einsum("bi,bj->bij", x, x),
        lambda x: (x.view(-1, 4, 2) @ x.view(-1, 2, 4)).tril(),
        lambda x: (x.view(-1, 1, 4, 2) @ x.view(-1, 1, 2, 4)).triu(1).flatten(1)[:, 1:],
        lambda x: torch.baddbmm(
            x.view(-1, 2, 4)[:, :, :2], x.view(-1, 2, 4), x.view(-1, 4, 2), beta=2, alpha=3
        ),
        lambda x: torch.cat([x[:, :2], torch.zeros(x.shape[0], 3)], 1),
        lambda x: x + torch.arange(x.shape[0])[:, None],
        lambda x: functional.interpolate(x.view(-1, 2, 2, 2), scale_factor=2),
        lambda x: functional.interpolate(x.view(-1, 2, 2, 2), size=(3, 3), mode="bilinear"),
        lambda x: functional.unfold(x.view(-1, 1, 2, 4), (2, 2)),
        lambda x: x.view(-1, 2, 4).transpose(1, 2),
        lambda x: x.scatter(1, torch.tensor([[1]]).expand(x.shape[0], 1), 0.5),
        lambda x: x.scatter_reduce(1, torch.tensor([[1, 1, 2]]).expand(x.shape[0], 3), x[:, :3], "sum"),
        lambda x: x.index_select(1, torch.tensor([4, 4, 1])),
    ),
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "activations": lambda: nn.Sequential(
        nn.Linear(4, 6),
        nn.CELU(),
        nn.ELU(),
        nn.Hardswish(),
        nn.LeakyReLU(),
        nn.LogSigmoid(),
        nn.Mish(),
        nn.PReLU(),
        nn.Softplus(),
        nn.Softsign(),
        nn.Hardtanh(),
        nn.GELU("tanh"),
        nn.Linear(6, 6),
        nn.GLU(),
        nn.Softmax(1),
    ),
    "pooling": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Upsample(scale_factor=4),
        nn.Conv2d(1, 2, 1),
        Branches(
            2 * (16 + 36 + 25 + 36 + 9 + 15 + 16),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.MaxPool2d(2, 1, dilation=2),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
            nn.AvgPool2d(3, 1, divisor_override=5),
            nn.AdaptiveAvgPool2d(3),
            nn.AdaptiveMaxPool2d((3, 5)),
            nn.AdaptiveMaxPool2d(4),
        ),
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 4)),
        nn.Conv1d(1, 2, 2, padding="same"),
        Branches(
            2 * (3 + 2 + 4),
            nn.Conv1d(2, 2, 2, groups=2, bias=False),
            nn.Conv1d(2, 2, 2, stride=2),
            nn.AvgPool1d(1),
        ),
    ),
    "norms": lambda: nn.Sequential(
        nn.Linear(4, 6),
        nn.RMSNorm(6),
        nn.Unflatten(1, (2, 3)),
        nn.InstanceNorm1d(2),
        nn.Flatten(),
        nn.Linear(6, 3),
    ),
    "dropouts": lambda: nn.Sequential(
        nn.Linear(4, 8),
        nn.Dropout(0.2, inplace=True),
        nn.AlphaDropout(0.2),
        nn.Unflatten(1, (4, 2)),
        nn.Dropout1d(0.2),
        nn.FeatureAlphaDropout(0.2),
        nn.Flatten(),
        nn.Linear(8, 3),
        nn.Dropout(0.0),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_are_those_of_torch(name: str) -> None:
    case = Case(lambda: Several(*FUNCTIONS[name]))
    assert largest_difference(case, steps=5) <= EXACT


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_torch(name: str) -> None:
    assert largest_difference(Case(LAYERS[name]), steps=5) <= EXACT


@pytest.mark.parametrize(
    "name",
    [*FUNCTIONS, "pooling", *(pytest.param(n, marks=pytest.mark.slow) for n in LAYERS if n != "pooling")],
)
def test_they_can_be_stacked(name: str) -> None:
    case = Case(LAYERS[name] if name in LAYERS else lambda: Several(*FUNCTIONS[name]))
    assert stacked_difference(case) <= EXACT
