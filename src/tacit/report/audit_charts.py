"""What an audit has found, drawn."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tacit.core.examples import Array
from tacit.privacy.audit import Bound
from tacit.report import audit_words, words
from tacit.report.audit_findings import Findings, Picture
from tacit.report.drawing import (
    BLUE,
    FONT,
    GREY,
    INK,
    MUTED,
    TEAL,
    VERMILION,
    WIDTH,
    Chart,
    Key,
    axes,
    plain_numbers,
    row_height,
    thin,
    to_svg,
    variable,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 30
_SQUARE = 49  # numbers in a row that are drawn as a square picture, if they can be
_SIDE = 92.0  # of a picture, pixels
_FEATURES = 60


def bounds(findings: Findings) -> Chart | None:
    """Draw every lower bound beside the claim; None if there is none."""
    shown = findings.bounds
    if not shown:
        return None
    claimed, edge = findings.claim.epsilon, _edge(findings)
    figure, area = axes(64 + row_height(len(shown)) * len(shown), left=190, right=58)
    for row, bound in enumerate(shown):
        _bound(area, row, bound, edge, refutes=bound.refutes(findings.claim))
    if math.isfinite(claimed):
        area.axvline(claimed, color=INK, linewidth=1.5, linestyle="dashed")
    area.set_yticks(range(len(shown)), [audit_words.method(bound) for bound in shown])
    area.set_ylim(len(shown) - 0.5, -0.5)
    area.set_xlim(0, edge * 1.02)
    area.grid(visible=True, axis="x")
    area.grid(visible=False, axis="y")
    area.set_xlabel("epsilon")
    plain_numbers(area, "x")
    told = [f"{audit_words.method(bound)} {audit_words.epsilon(bound.epsilon)}" for bound in shown]
    claim = f"claimed {audit_words.epsilon(claimed)}" if math.isfinite(claimed) else "nothing claimed"
    svg = to_svg(figure, "bounds", f"Lower bounds on epsilon, {claim}: {'; '.join(told)}.")
    caption = (
        "A bar beyond the dashed line refutes the claim; one that stays short of it proves nothing."
        if math.isfinite(claimed)
        else "What an attacker can prove to have learned; the truth may be any larger."
    )
    return Chart("Epsilon is at least", caption, svg, _bound_keys(findings))


def _bound(area: "Axes", row: int, bound: Bound, edge: float, *, refutes: bool) -> None:
    colour = VERMILION if refutes else TEAL if bound.is_gaussian else BLUE
    value = min(bound.epsilon, edge)
    area.barh(row, value, height=0.6, color=colour)
    area.annotate(
        audit_words.epsilon(bound.epsilon), (value, row), (5, -1), textcoords="offset points", va="center"
    )


def _edge(findings: Findings) -> float:
    values = [*(bound.epsilon for bound in findings.bounds), findings.claim.epsilon]
    return 1.1 * max([value for value in values if math.isfinite(value)], default=1.0) or 1.0


def _bound_keys(findings: Findings) -> tuple[Key, ...]:
    keys = [
        Key("assumes nothing", variable(BLUE), "box"),
        Key("assumes Gaussian noise", variable(TEAL), "box"),
    ]
    if findings.refuting:
        keys.append(Key("refutes the claim", variable(VERMILION), "box"))
    if findings.claim.is_private:
        keys.append(Key("claimed", variable(INK), "dashed", audit_words.epsilon(findings.claim.epsilon)))
    return tuple(keys)


def scores(findings: Findings) -> Chart | None:
    """Draw the scores of canaries; None if there were none."""
    found = findings.scores
    if found is None or not (found.included or found.left_out):
        return None
    included, left_out = np.array(found.included), np.array(found.left_out)
    both = np.concatenate([included, left_out])
    if not np.ptp(both) > 0:
        return None
    figure, area = axes(left=52)
    edges = np.linspace(both.min(), both.max(), _BINS + 1).tolist()
    area.hist(left_out, bins=edges, color=GREY, alpha=0.9)
    area.hist(included, bins=edges, color=VERMILION, alpha=0.6)
    area.set_xlabel("score" if found.is_noiseless else "score, in standard deviations of the noise")
    area.set_ylabel("canaries")
    plain_numbers(area, "x")
    plain_numbers(area, whole=True)
    keys = (
        Key("included", variable(VERMILION), "area", words.count(len(included))),
        Key("left out", variable(GREY), "box", words.count(len(left_out))),
    )
    told = f"Histogram of canary scores: {len(included)} included, {len(left_out)} left out."
    caption = "The more the two overlap, the less the released models say about who took part."
    return Chart("What a release says about a canary", caption, to_svg(figure, "scores", told), keys)


def membership(findings: Findings) -> Chart | None:
    """Draw how well records are recognised; None if that was not tried."""
    roc = findings.membership
    if roc is None:
        return None
    figure, area = axes(left=52)
    least = 0.5 / max(roc.others, 1)
    false = [max(point[0], least) for point in roc.points]
    guess = np.geomspace(least, 1, 50).tolist()
    area.plot(guess, guess, color=GREY, linestyle="dotted")
    area.plot(false, [point[1] for point in roc.points], color=BLUE, drawstyle="steps-post")
    area.set_xscale("log")
    area.set_xlim(least, 1)
    area.set_ylim(-0.02, 1.02)
    area.set_xlabel("records left out that are taken for members")
    area.set_ylabel("members found")
    plain_numbers(area, "x")
    plain_numbers(area)
    keys = (
        Key("attack", variable(BLUE), "line", f"area {words.number(roc.auc, 3)}"),
        Key("a guess", variable(GREY), "dotted"),
    )
    told = f"Members found by share of false alarms: area under the curve {words.number(roc.auc, 3)}."
    caption = "What counts is the left end: members that can be named with few false alarms."
    return Chart("Recognising records", caption, to_svg(figure, "membership", told), keys)


def pictures(findings: Findings) -> Chart | None:
    """Draw examples beside what was recovered of them; None if nothing was inverted."""
    shown = findings.pictures
    if not shown:
        return None
    if _image(shown[0].original) is None:
        return _features(shown[0])
    from matplotlib.figure import Figure

    columns, height = len(shown), 3 * (_SIDE + 8)
    figure = Figure(figsize=(2 * WIDTH / 72, height / 72), dpi=72, facecolor="none")
    for column, picture in enumerate(shown):
        low, high = float(picture.original.min()), float(picture.original.max())
        for row, array in enumerate((picture.original, picture.before, picture.after)):
            left = 70 + column * (_SIDE + 8)
            bottom = height - (row + 1) * (_SIDE + 8)
            box = (left / (2 * WIDTH), bottom / height, _SIDE / (2 * WIDTH), _SIDE / height)
            area = figure.add_axes(box)
            area.set_axis_off()
            image = _image(array)
            assert image is not None
            scaled = np.clip((image - low) / (high - low or 1.0), 0, 1)
            area.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="none", aspect="auto")
    for row, label in enumerate(("original", "before", "after")):
        middle = 1 - (row + 0.5) * (_SIDE + 8) / height
        figure.text(0.0, middle, label, color=MUTED, fontsize=FONT, va="center")
    told = (
        f"{columns} examples, each as it is, as recovered from the update, and as recovered from the release."
    )
    return Chart("One update, inverted", _PICTURES, to_svg(figure, "pictures", told))


_PICTURES = (
    "Each column is a client with one example. Before: recovered from its update as training made it. "
    "After: recovered from what the round releases, with everybody else sending zeros."
)


def _features(picture: Picture) -> Chart:
    """Draw an input that is no image as a line over its numbers."""
    figure, area = axes(left=52)
    rows: Sequence[tuple[Array, str, str]] = (
        (picture.after, VERMILION, "dotted"),
        (picture.before, BLUE, "dashed"),
        (picture.original, INK, "solid"),
    )
    kept = list(thin(picture.original.size, _FEATURES))
    for array, colour, style in rows:
        area.plot(kept, array.ravel()[kept], color=colour, linestyle=style, marker="o", markersize=3)
    area.set_xlabel("number of the input")
    plain_numbers(area, "x", whole=True)
    plain_numbers(area)
    keys = (
        Key("original", variable(INK), "line"),
        Key("before", variable(BLUE), "dashed", words.number(picture.likeness_before.correlation, 2)),
        Key("after", variable(VERMILION), "dotted", words.number(picture.likeness_after.correlation, 2)),
    )
    svg = to_svg(figure, "pictures", "The first example's numbers, and what was recovered of them.")
    caption = f"{_PICTURES.replace('Each column is', 'This is')} The numbers are likeness."
    return Chart("One update, inverted", caption, svg, keys)


def _image(array: Array) -> Array | None:
    """Return an input as a picture, shape (rows, columns) or (rows, columns, 3); None if it is none."""
    if array.ndim == 3 and array.shape[0] in (1, 3):
        return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if array.ndim == 2 and min(array.shape) > 1:
        return array
    side = math.isqrt(array.size)
    if array.ndim == 1 and side * side == array.size >= _SQUARE:
        return array.reshape(side, side)
    return None
