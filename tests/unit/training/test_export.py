"""A program is the step that it was made from: every kind of layer, loss and setting, over twenty steps."""

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.executor import UnsupportedError
from tests.unit.training.programs import (
    CLASSES,
    WORDS,
    Case,
    Lines,
    flat,
    largest_difference,
    stacked_difference,
)

EXACT = 1e-5
STACKED_QUICKLY = ("mlp", "conv-stride-padding", "max-pool-overlapping", "embedding", "gru", "dropout", "mse")
NEVER_STACKED = {
    "batch-norm-without-statistics": "examples of a batch influence each other",
    "transposed-conv": "ConvTranspose with weights of each client's own",
    "own-loss": "loss: stacked clients need padding",
}


class Words(nn.Module):
    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(WORDS, 4, **settings), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.words(x).mean(dim=1))
        return out


class Attention(nn.Module):
    """Attention written by hand, with a causal mask, and weights tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.project = nn.Embedding(CLASSES, 6), nn.Linear(6, 18)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(self.words(x % CLASSES)).chunk(3, dim=-1)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True) @ self.words.weight.T


class TimeFirst(nn.Module):
    """A transformer layer that has time first, as torch has it by default."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(WORDS, 6), nn.Linear(6, CLASSES)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.layer(self.words(x).transpose(0, 1)).transpose(0, 1))
        return out


class Tied(nn.Module):
    """One parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(WORDS, 6), nn.Linear(6, WORDS, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.words(x).tanh())
        return out


def conv(*layers: nn.Module, size: int, side: int = 8) -> Case:
    return Case(lambda: flat(*layers, size=size), (2, side, side))


def lines(make: object, width: int = 5, **more: object) -> Case:
    return Case(lambda: Lines(make(), width, **more), (5,), target=(5,), words=True)  # type: ignore[operator]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def one_output() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


CASES = {
    "mlp": Case(mlp),
    "conv": conv(nn.Conv2d(2, 3, 3), nn.ReLU(), size=3 * 36),
    "conv-stride-padding": conv(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), size=3 * 16),
    "conv-dilation-groups": conv(nn.Conv2d(2, 4, 3, dilation=2, groups=2, stride=3), nn.ReLU(), size=4 * 4),
    "max-pool": conv(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2), size=2 * 16),
    "max-pool-overlapping": conv(nn.Conv2d(2, 2, 1), nn.MaxPool2d(3, 2, padding=1), size=2 * 16),
    "average-pool": conv(nn.Conv2d(2, 2, 1), nn.AvgPool2d(2), size=2 * 16),
    "adaptive-average-pool": conv(nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(3), size=2 * 9),
    "embedding": Case(Words, (5,), words=True),
    "lstm": lines(lambda: nn.LSTM(6, 5, batch_first=True)),
    "gru": lines(lambda: nn.GRU(6, 5, batch_first=True)),
    "transformer": lines(lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.2, batch_first=True), 6),
    "layer-norm": Case(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, CLASSES))
    ),
    "group-norm": conv(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), size=4 * 36),
    "dropout": Case(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, CLASSES))
    ),
    "binary": Case(one_output, loss="binary_cross_entropy", target=(1,)),
    "mse": Case(one_output, loss="mse"),
    "l1": Case(one_output, loss="l1", target=(1,)),
    "huber": Case(one_output, loss="huber"),
}
MORE_CASES = {
    "conv-bias-free-even-kernel": conv(nn.Conv2d(2, 3, (2, 4), bias=False, padding=(1, 2)), size=3 * 9 * 9),
    "conv-uneven-stride": conv(nn.Conv2d(2, 3, 3, stride=(3, 2)), size=3 * 2 * 3),
    "conv-same": conv(nn.Conv2d(2, 3, 4, padding="same"), size=3 * 64),
    "conv-depthwise": conv(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 3, 1), size=3 * 36),
    "conv-two": conv(
        nn.Conv2d(2, 3, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), size=4 * 4
    ),
    "conv-1d": Case(
        lambda: flat(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.MaxPool1d(2), size=3 * 2), (2, 8)
    ),
    "conv-3d": Case(lambda: flat(nn.Conv3d(1, 2, 2), nn.MaxPool3d(2, 1), size=2 * 8), (1, 4, 4, 4)),
    "conv-reflect": conv(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), size=3 * 64),
    "conv-circular": conv(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), size=3 * 64),
    "max-pool-ceil": conv(nn.Conv2d(2, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), size=2 * 16),
    "max-pool-dilated": conv(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2, 1, dilation=2), size=2 * 36),
    "average-pool-padded": conv(nn.Conv2d(2, 2, 1), nn.AvgPool2d(3, 2, padding=1), size=2 * 16),
    "average-pool-ceil": conv(nn.Conv2d(2, 2, 1), nn.AvgPool2d(3, 2, ceil_mode=True), size=2 * 16),
    "average-pool-padding-not-counted": conv(
        nn.Conv2d(2, 2, 1),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        size=2 * 25,
    ),
    "average-pool-divisor": conv(nn.Conv2d(2, 2, 1), nn.AvgPool2d(3, 1, divisor_override=5), size=2 * 36),
    "average-pool-1d": Case(lambda: flat(nn.Conv1d(2, 3, 1), nn.AvgPool1d(3, 2), size=3 * 3), (2, 8)),
    "adaptive-average-pool-1d": Case(
        lambda: flat(nn.Conv1d(2, 3, 1), nn.AdaptiveAvgPool1d(3), size=9), (2, 8)
    ),
    "adaptive-average-pool-one": conv(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), size=4),
    "adaptive-max-pool": conv(nn.Conv2d(2, 2, 1), nn.AdaptiveMaxPool2d(4), size=2 * 16),
    "adaptive-max-pool-uneven": conv(nn.Conv2d(2, 2, 1), nn.AdaptiveMaxPool2d((3, 5)), size=2 * 15),
    "embedding-padding-index": Case(lambda: Words(padding_idx=3), (5,), words=True),
    "lstm-deep-both-ways": lines(
        lambda: nn.LSTM(6, 5, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True), 10
    ),
    "lstm-projection": lines(lambda: nn.LSTM(6, 5, proj_size=3, batch_first=True), 3),
    "gru-deep": lines(lambda: nn.GRU(6, 5, num_layers=2, dropout=0.3, bias=False, batch_first=True)),
    "rnn": lines(lambda: nn.RNN(6, 5, nonlinearity="relu", batch_first=True)),
    "transformer-time-first": Case(TimeFirst, (5,), target=(5,), words=True),
    "transformer-norm-first": lines(
        lambda: nn.TransformerEncoderLayer(6, 2, 8, 0.0, "gelu", batch_first=True, norm_first=True), 6
    ),
    "attention-causal-tied": Case(Attention, (5,), target=(5,), words=True),
    "instance-norm": conv(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), size=4 * 36),
    "rms-norm": Case(lambda: nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6), nn.Linear(6, CLASSES))),
    "batch-norm-without-statistics": Case(
        lambda: nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, CLASSES)
        )
    ),
    "dropout-2d": conv(nn.Conv2d(2, 4, 3), nn.Dropout2d(0.4), size=4 * 36),
    "dropout-alpha": Case(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.SELU(), nn.AlphaDropout(0.3), nn.Linear(8, 3))
    ),
    "dropout-alpha-2d": conv(nn.Conv2d(2, 4, 3), nn.FeatureAlphaDropout(0.4), size=4 * 36),
    "dropout-in-place": Case(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3, inplace=True), nn.Linear(8, 3))
    ),
    "dropout-always-and-never": Case(
        lambda: nn.Sequential(
            nn.Linear(4, 8), nn.Dropout(0.0), nn.Linear(8, 8), nn.Dropout(1.0), nn.Linear(8, 3)
        )
    ),
    "transposed-conv": conv(
        nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2), nn.ReLU(), size=2 * 256
    ),
    "tied": Case(Tied, (5,), target=(5,), words=True),
    "weight-norm": Case(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, CLASSES))),
    "own-loss": Case(
        mlp, loss=lambda outputs, targets: (outputs.sum(dim=1) - targets).abs().mean(), target=()
    ),
}
ACTIVATIONS = {
    "celu": nn.CELU, "elu": nn.ELU, "hardshrink": nn.Hardshrink, "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish, "hardtanh": nn.Hardtanh, "leaky-relu": nn.LeakyReLU,
    "log-sigmoid": nn.LogSigmoid,
    "mish": nn.Mish, "prelu": nn.PReLU, "relu6": nn.ReLU6, "selu": nn.SELU, "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1), "softplus": nn.Softplus, "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink, "gelu-tanh": lambda: nn.GELU(approximate="tanh"),
    "glu": lambda: nn.Sequential(nn.Linear(6, 12), nn.GLU()),
}  # fmt: skip
SETTINGS = {
    "momentum": (LocalSGD(lr=0.05, momentum=0.9), LocalTerms()),
    "weight-decay": (LocalSGD(lr=0.05, weight_decay=0.1), LocalTerms()),
    "clipped": (LocalSGD(lr=0.5, max_grad_norm=0.1), LocalTerms()),
    "proximal": (LocalSGD(lr=0.05), LocalTerms(proximal=0.5)),
    "correction": (LocalSGD(lr=0.05), LocalTerms(correction=np.linspace(-1, 1, 51, dtype=np.float32))),
    "all": (
        LocalSGD(lr=0.05, momentum=0.8, weight_decay=0.1, max_grad_norm=0.3),
        LocalTerms(proximal=0.5, correction=np.linspace(-1, 1, 51, dtype=np.float32)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_of_a_program_are_torchs(name: str) -> None:
    assert largest_difference(CASES[name]) <= EXACT


@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_steps_with_any_setting_are_torchs(name: str) -> None:
    assert largest_difference(CASES["mlp"], *SETTINGS[name]) <= EXACT


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel", "ignore:LSTM with projections")
@pytest.mark.parametrize("name", MORE_CASES)
def test_twenty_steps_with_odder_layers_are_torchs(name: str) -> None:
    assert largest_difference(MORE_CASES[name]) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_twenty_steps_with_any_activation_are_torchs(name: str) -> None:
    case = Case(lambda: nn.Sequential(nn.Linear(4, 6), ACTIVATIONS[name](), nn.Linear(6, CLASSES)))
    assert largest_difference(case) <= EXACT


@pytest.mark.parametrize("name", STACKED_QUICKLY)
def test_stacked_clients_are_the_same_clients_one_by_one(name: str) -> None:
    assert stacked_difference(CASES[name]) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*CASES, *MORE_CASES} - {*STACKED_QUICKLY, *NEVER_STACKED}))
def test_stacked_clients_with_odder_layers_are_the_same_clients_one_by_one(name: str) -> None:
    assert stacked_difference({**CASES, **MORE_CASES}[name]) <= EXACT


@pytest.mark.parametrize("name", ["momentum", "all"])
def test_stacked_clients_with_settings_are_the_same_clients_one_by_one(name: str) -> None:
    assert stacked_difference(CASES["mlp"], *SETTINGS[name]) <= EXACT


@pytest.mark.parametrize(("name", "reason"), NEVER_STACKED.items())
def test_what_cannot_be_stacked_says_why(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        stacked_difference(MORE_CASES[name])
