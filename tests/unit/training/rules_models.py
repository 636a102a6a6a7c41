"""Models of every layer, with a rule or without."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unit.training.rules_cases import CLASSES, WORDS, Factory, linear, made, weights


def _image(layer: Factory, *behind: Factory) -> Factory:
    """Return a convolution of images, then perhaps more, then a mean over the image and a dense layer."""
    parts = {"conv": layer, "more": lambda: nn.Sequential(*(each() for each in behind)), "last": linear(6)}
    return made(lambda m, x: m.last(torch.tanh(m.more(m.conv(x))).flatten(2).mean(2)), **parts)


def _recurrent(layer: Factory, last: Callable[..., Tensor], width: int = 5) -> Factory:
    """Return a recurrent layer over a series, then a dense layer on what is made of its results."""
    return made(lambda m, x: m.last(last(*m.rnn(x))), rnn=layer, last=linear(width))


def _gru(**more: Any) -> Factory:
    return lambda: nn.GRU(4, 5, **{"batch_first": True, **more})


def _lstm(**more: Any) -> Factory:
    return lambda: nn.LSTM(4, 5, **{"batch_first": True, **more})


def _words() -> nn.Module:
    return nn.Embedding(WORDS, 5)


def _norm() -> nn.Module:
    return nn.LayerNorm(5)


def _conv(**more: Any) -> Factory:
    return lambda: nn.Conv2d(4, 6, 3, **more)


def _attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
    found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return m.last(m.norm(x + m.out(found.transpose(1, 2).flatten(2))).mean(1))  # type: ignore[no-any-return]


def _masked(m: Any, x: Tensor) -> Tensor:
    mask = (x != 3).unsqueeze(-1)
    return m.last((m.emb(x) * mask).sum(1) / mask.sum(1).clamp_min(1))  # type: ignore[no-any-return]


def _packed(m: Any, x: Tensor) -> Tensor:
    lengths = torch.full((len(x),), 4)
    lengths[0] = 5
    _, h = m.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return m.last(h[-1])  # type: ignore[no-any-return]


def _transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 7, dropout=0.0, batch_first=True)


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    model[0].requires_grad_(False)
    return model


def _twice(m: Any, x: Tensor) -> Tensor:
    return m.last(m.a(m.a(x).tanh()).tanh())  # type: ignore[no-any-return]


STACKED: dict[str, tuple[str, Factory]] = {
    "mlp": ("table", lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))),
    "no bias": (
        "table",
        lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.GELU(), nn.Linear(8, CLASSES)),
    ),
    "dense over time": (
        "series",
        made(lambda m, x: m.last(m.a(x).tanh().mean(1)), a=linear(4, 5), last=linear(5)),
    ),
    "flattened time": (
        "series",
        made(
            lambda m, x: m.last(m.a(x.flatten(0, 1)).view(*x.shape[:2], 5).amax(1)),
            a=linear(4, 5),
            last=linear(5),
        ),
    ),
    "conv": ("image", _image(_conv())),
    "conv stride": ("image", _image(_conv(stride=2))),
    "conv uneven": ("image", _image(lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 0)))),
    "conv padding": ("image", _image(_conv(padding=2, bias=False))),
    "conv dilation": ("image", _image(_conv(dilation=2, padding=1))),
    "conv groups": ("image", _image(_conv(groups=2))),
    "conv depthwise": ("image", _image(lambda: nn.Conv2d(4, 4, 3, groups=4), lambda: nn.Conv2d(4, 6, 1))),
    "conv circular": ("image", _image(_conv(padding=1, padding_mode="circular"))),
    "conv 1d": ("signal", _image(lambda: nn.Conv1d(4, 6, 5, stride=2, padding=1, dilation=2, groups=2))),
    "conv 3d": ("volume", _image(lambda: nn.Conv3d(2, 6, 2, stride=2, padding=1))),
    "max pool": ("image", _image(_conv(), nn.ReLU, lambda: nn.MaxPool2d(2))),
    "max pool 1d": ("signal", _image(lambda: nn.Conv1d(4, 6, 3), nn.ReLU, lambda: nn.MaxPool1d(3, 2, 1))),
    "average pool": ("image", _image(_conv(), lambda: nn.AvgPool2d(3, stride=2))),
    "adaptive pool": (
        "image",
        _image(_conv(), lambda: nn.AdaptiveAvgPool2d((2, 3)), lambda: nn.Conv2d(6, 6, 2)),
    ),
    "adaptive max pool": ("image", _image(_conv(), lambda: nn.AdaptiveMaxPool2d(2))),
    "relu in place": ("image", _image(_conv(), lambda: nn.ReLU(inplace=True), lambda: nn.Conv2d(6, 6, 2))),
    "interpolated": ("image", _image(_conv(), lambda: nn.Upsample(scale_factor=2, mode="bilinear"))),
    "embedding": ("words", made(lambda m, x: m.last(m.emb(x).mean(1)), emb=_words, last=linear(5))),
    "masked words": ("words", made(_masked, emb=_words, last=linear(5))),
    "gru": ("series", _recurrent(_gru(), lambda y, h: y.mean(1))),
    "gru last state": ("series", _recurrent(_gru(), lambda y, h: h[-1])),
    "gru two layers": ("series", _recurrent(_gru(num_layers=2), lambda y, h: y[:, -1] + h[0])),
    "gru no bias": ("series", _recurrent(_gru(bias=False), lambda y, h: y.amax(1))),
    "gru twice": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(m.rnn(x)[0])[0].mean(1)),
            rnn=lambda: nn.GRU(4, 4, batch_first=True),
            last=linear(4),
        ),
    ),
    "gru given state": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x, m.first(x[:, 0])[None].tanh())[0].mean(1)),
            first=linear(4, 5),
            rnn=_gru(),
            last=linear(5),
        ),
    ),
    "gru output in place": ("series", _recurrent(_gru(), lambda y, h: y.mul_(2.0).mean(1))),
    "one step of a gru": (
        "table",
        made(
            lambda m, x: m.last(m.rnn(x[:, None])[0].mul_(2.0)[:, 0]),
            rnn=lambda: nn.GRU(6, 5, batch_first=True),
            last=linear(5),
        ),
    ),
    "lstm": ("series", _recurrent(_lstm(), lambda y, state: y.mean(1))),
    "lstm last state": ("series", _recurrent(_lstm(), lambda y, state: state[0].squeeze(0))),
    "lstm cell": ("series", _recurrent(_lstm(), lambda y, state: state[1][-1] + y[:, 2])),
    "lstm two layers": (
        "series",
        _recurrent(_lstm(num_layers=2), lambda y, state: torch.cat([state[0][0], state[1][1]], 1), 10),
    ),
    "lstm no bias": ("series", _recurrent(_lstm(bias=False), lambda y, state: y.amax(1))),
    "lstm given state": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x, (m.a(x[:, 0])[None], m.a(x[:, 1])[None]))[0].mean(1)),
            a=linear(4, 5),
            rnn=_lstm(),
            last=linear(5),
        ),
    ),
    "layer norm": (
        "table",
        made(lambda m, x: m.last(m.norm(m.a(x))), a=linear(6, 5), norm=_norm, last=linear(5)),
    ),
    "layer norm, two axes": (
        "series",
        made(lambda m, x: m.last(m.norm(x).mean(1)), norm=lambda: nn.LayerNorm((5, 4)), last=linear(4)),
    ),
    "layer norm, no bias": (
        "table",
        made(
            lambda m, x: m.last(m.norm(m.a(x))),
            a=linear(6, 5),
            norm=lambda: nn.LayerNorm(5, bias=False),
            last=linear(5),
        ),
    ),
    "layer norm, not affine": (
        "table",
        made(
            lambda m, x: m.last(m.norm(m.a(x))),
            a=linear(6, 5),
            norm=lambda: nn.LayerNorm(5, elementwise_affine=False),
            last=linear(5),
        ),
    ),
    "group norm": ("image", _image(_conv(), lambda: nn.GroupNorm(3, 6))),
    "group norm, not affine": ("image", _image(_conv(), lambda: nn.GroupNorm(2, 6, affine=False))),
    "instance norm": ("image", _image(_conv(), lambda: nn.InstanceNorm2d(6))),
    "attention": (
        "series",
        made(_attention, qkv=linear(4, 24), out=linear(8, 4), norm=lambda: nn.LayerNorm(4), last=linear(4)),
    ),
    "dense, in place": (
        "table",
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, CLASSES)),
    ),
    "norm, in place": (
        "series",
        made(
            lambda m, x: m.last(m.norm(m.a(x)).mul_(2.0).mean(1)), a=linear(4, 5), norm=_norm, last=linear(5)
        ),
    ),
    "embedding, in place": (
        "words",
        made(lambda m, x: m.last(m.emb(x).add_(1.0).mean(1)), emb=_words, last=linear(5)),
    ),
    "no dropout": (
        "table",
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.0), nn.Linear(5, CLASSES)),
    ),
    "residual": (
        "table",
        made(lambda m, x: m.last(x + m.b(m.a(x).relu())), a=linear(6, 5), b=linear(5, 6), last=linear(6)),
    ),
    "same layer twice": ("table", made(_twice, a=linear(6, 6), last=linear(6))),
    "first layer again": (
        "table",
        made(lambda m, x: m.last(m.a(x) + m.a(m.a(x).tanh())), a=linear(6, 6), last=linear(6)),
    ),
    "tied embedding": (
        "words",
        made(
            lambda m, x: m.last(functional.linear(m.a(m.emb(x).mean(1)).tanh(), m.emb.weight, m.bias)),
            emb=_words,
            a=linear(5, 5),
            bias=weights(WORDS),
            last=linear(WORDS),
        ),
    ),
    "unused": ("table", made(lambda m, x: m.last(x), spare=weights(3, 2), last=linear(6), idle=linear(2, 2))),
    "frozen": ("table", _frozen),
    "functional": (
        "table",
        made(
            lambda m, x: functional.linear(input=functional.linear(x, m.w, bias=m.b).tanh(), weight=m.v),
            w=weights(5, 6),
            b=weights(5),
            v=weights(CLASSES, 5),
        ),
    ),
    "list of parameters": (
        "table",
        made(
            lambda m, x: functional.linear(functional.linear(x, m.ws[0]).tanh(), m.ws[1]),
            ws=lambda: nn.ParameterList([weights(5, 6)(), weights(CLASSES, 5)()]),
        ),
    ),
    "view": ("table", made(lambda m, x: m.last(x).view(-1, 2, CLASSES)[:, 1], last=linear(6, 2 * CLASSES))),
    "without gradient": (
        "table",
        made(lambda m, x: m.last(torch.cat([x, m.a(x).detach()], 1)), a=linear(6, 5), last=linear(11)),
    ),
    "buffer filled": ("table", made(lambda m, x: m.last(_filled(m.a(x))), a=linear(6, 5), last=linear(6))),
}
"""Models whose clients are trained as one stack: the kind of data, and the model."""


def _filled(x: Tensor) -> Tensor:
    found = x.new_zeros(len(x), 6)
    found[:, 1:] = x
    return found


class _Scaled(torch.autograd.Function):
    """A function of somebody's own, with a parameter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0)


def _own_gradient(m: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(m.last(m.a(x).tanh()).sum(), x)
    return m.last(m.a(x.detach() + g).tanh())  # type: ignore[no-any-return]


def _clamped(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.w.clamp_(-0.3, 0.3)
    return functional.linear(x, m.w)


ALONE: dict[str, tuple[str, Factory]] = {
    "conv same": ("image", _image(_conv(padding="same"))),
    "padding index": (
        "words",
        made(
            lambda m, x: m.last(m.emb(x).mean(1)),
            emb=lambda: nn.Embedding(WORDS, 5, padding_idx=2),
            last=linear(5),
        ),
    ),
    "gru, time first": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x.transpose(0, 1))[0].mean(0)),
            rnn=_gru(batch_first=False),
            last=linear(5),
        ),
    ),
    "lstm, time first": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x.transpose(0, 1))[1][1][0]),
            rnn=_lstm(batch_first=False),
            last=linear(5),
        ),
    ),
    "gru, both ways": ("series", _recurrent(_gru(bidirectional=True), lambda y, h: y.mean(1), 10)),
    "lstm, both ways": (
        "series",
        _recurrent(_lstm(bidirectional=True, num_layers=2), lambda y, state: y.mean(1), 10),
    ),
    "lstm, projected": ("series", _recurrent(_lstm(proj_size=3), lambda y, state: y.mean(1), 3)),
    "learned first state": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x, m.h.expand(1, len(x), 5).contiguous())[0].mean(1)),
            h=weights(5),
            rnn=_gru(),
            last=linear(5),
        ),
    ),
    "gru, given states": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x, m.first(x[:, 0]).tanh().expand(2, -1, -1).contiguous())[0].mean(1)),
            first=linear(4, 5),
            rnn=_gru(num_layers=2),
            last=linear(5),
        ),
    ),
    "plain rnn": ("series", _recurrent(lambda: nn.RNN(4, 5, batch_first=True), lambda y, h: y.mean(1))),
    "gru cell": (
        "table",
        made(lambda m, x: m.last(m.cell(x)), cell=lambda: nn.GRUCell(6, 5), last=linear(5)),
    ),
    "gru, dropout": (
        "series",
        _recurrent(_gru(num_layers=2, dropout=0.4), lambda y, h: y.mean(1)),
    ),
    "packed": ("series", made(_packed, rnn=_gru(), last=linear(5))),
    "transformer": (
        "series",
        made(lambda m, x: m.last(m.layer(x).mean(1)), layer=_transformer, last=linear(4)),
    ),
    "rms norm": (
        "table",
        made(lambda m, x: m.last(m.norm(m.a(x))), a=linear(6, 5), norm=lambda: nn.RMSNorm(5), last=linear(5)),
    ),
    "instance norm, affine": ("image", _image(_conv(), lambda: nn.InstanceNorm2d(6, affine=True))),
    "layer norm, only bias": (
        "table",
        made(
            lambda m, x: m.last(functional.layer_norm(m.a(x), (5,), None, m.b)),
            a=linear(6, 5),
            b=weights(5),
            last=linear(5),
        ),
    ),
    "transposed conv": ("image", _image(lambda: nn.ConvTranspose2d(4, 6, 2))),
    "prelu": ("table", lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU(), nn.Linear(5, CLASSES))),
    "bilinear": (
        "table",
        made(lambda m, x: m.last(m.a(x, x)), a=lambda: nn.Bilinear(6, 6, 5), last=linear(5)),
    ),
    "embedding bag": (
        "words",
        made(lambda m, x: m.last(m.emb(x)), emb=lambda: nn.EmbeddingBag(WORDS, 5), last=linear(5)),
    ),
    "weight norm": (
        "table",
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, CLASSES)
        ),
    ),
    "matmul": ("table", made(lambda m, x: (x @ m.w).tanh() @ m.v.T, w=weights(6, 5), v=weights(CLASSES, 5))),
    "scale": ("table", made(lambda m, x: m.last(m.scale * x), scale=weights(6), last=linear(6))),
    "one scale": ("table", made(lambda m, x: m.last(m.scale * x), scale=weights(), last=linear(6))),
    "from one": (
        "table",
        made(
            lambda m, x: m.last((1 - m.gate) * x + 2 / m.gate.square().add(1)),
            gate=weights(6),
            last=linear(6),
        ),
    ),
    "positions": (
        "series",
        made(lambda m, x: m.last((x + m.pos).tanh().mean(1)), pos=weights(5, 4), last=linear(4)),
    ),
    "embedded positions": (
        "words",
        made(
            lambda m, x: m.last((m.emb(x) + m.pos(torch.arange(6))).tanh().mean(1)),
            emb=_words,
            pos=lambda: nn.Embedding(6, 5),
            last=linear(5),
        ),
    ),
    "learned input": (
        "table",
        made(lambda m, x: m.last(x + m.a(m.query)), query=weights(1, 6), a=linear(6, 6), last=linear(6)),
    ),
    "learned input by name": (
        "table",
        made(
            lambda m, x: m.last(x + functional.linear(input=m.query, weight=m.w)),
            query=weights(1, 6),
            w=weights(6, 6),
            last=linear(6),
        ),
    ),
    "learned table": (
        "words",
        made(
            lambda m, x: m.last(functional.embedding(x, weight=m.w).mean(1) + m.w.mean(0)),
            w=weights(WORDS, 5),
            last=linear(5),
        ),
    ),
    "dense and penalised": (
        "table",
        made(lambda m, x: m.last(x) + m.last.weight.square().sum(), last=linear(6)),
    ),
    "dense and transposed": (
        "table",
        made(
            lambda m, x: m.a(m.b(m.a(x).tanh() @ m.a.weight).tanh()).relu()[:, :CLASSES],
            a=linear(6, 5),
            b=linear(6, 6),
        ),
    ),
    "normalised parameter": (
        "table",
        made(
            lambda m, x: m.last(x + functional.layer_norm(m.w, (6,), m.scale)),
            w=weights(6),
            scale=weights(6),
            last=linear(6),
        ),
    ),
    "clamped": ("table", made(_clamped, w=weights(CLASSES, 6))),
    "clamped data": (
        "table",
        made(lambda m, x: (m.w.data.clamp_(-0.3, 0.3), functional.linear(x, m.w))[1], w=weights(CLASSES, 6)),
    ),
    "own function": (
        "table",
        made(lambda m, x: m.last(_Scaled.apply(x, m.scale)), scale=weights(6), last=linear(6)),
    ),
    "own gradient": ("table", made(_own_gradient, a=linear(6, 5), last=linear(5))),
    "batch norm": (
        "table",
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, CLASSES)
        ),
    ),
    "half frozen layer": ("table", made(lambda m, x: m.last(x) * 2, last=lambda: _half_frozen(6))),
}
"""Models that are trained one client after the other: the kind of data, and the model."""


def _half_frozen(width: int) -> nn.Module:
    layer = nn.Linear(width, CLASSES)
    layer.weight.requires_grad_(False)
    return layer
