"""What all figures share: the palette, the axes, and the way from matplotlib to inline SVG.

Colours are written as CSS variables, so that a figure follows the page into dark mode and onto paper;
text stays text, in the page's own font. matplotlib is imported when the first figure is drawn.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tacit.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito (2008): told apart with any colour vision. The page's style sheet defines a variable
# for each, and another shade of it for dark mode.
INK, MUTED, GRID, PAPER = "#1f2933", "#5f6b7a", "#e3e7ec", "#fefefe"
BLUE, TEAL, VERMILION, ORANGE, SKY, GREY = "#0067a6", "#008f70", "#cc5500", "#e3a008", "#7cc0ea", "#b4bcc6"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    PAPER: "card",
    BLUE: "blue",
    TEAL: "teal",
    VERMILION: "vermilion",
    ORANGE: "orange",
    SKY: "sky",
    GREY: "grey",
}

WIDTH, HEIGHT, FONT = 420.0, 250.0, 12.5
_SETTINGS: dict[Any, Any] = {
    "font.size": FONT,
    "text.color": INK,
    "text.parse_math": False,  # a client may be called $x$
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 2.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "tacit",  # the same run, the same file
}


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend.

    Attributes:
        label: What it is.
        colour: Name of a colour variable.
        shape: How it is drawn.
        value: Its last value, if it has one.
    """

    label: str
    colour: str
    shape: Literal["line", "dashed", "dotted", "area", "box", "dot", "cross"]
    value: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure with everything a reader needs.

    Attributes:
        title: What is shown.
        caption: One sentence that says how to read it.
        svg: The figure, safe to put into a page.
        keys: Its legend.
    """

    title: str
    caption: str
    svg: str
    keys: tuple[Key, ...] = ()


def variable(colour: str) -> str:
    """Return the name of a palette colour's variable."""
    return _VARIABLES[colour]


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside with our settings alone, whatever the user's are; they are put back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        # A sign that matplotlib's font lacks is drawn by the browser's.
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def axes(
    height: float = HEIGHT, *, left: float = 42, right: float = 12, bottom: float = 38
) -> "tuple[Figure, Axes]":
    """Return a figure of the page's width with one quiet pair of axes; margins are in pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + 10) / height)
    area = figure.add_axes(box, facecolor="none")
    area.spines[["left", "right", "top"]].set_visible(False)
    area.tick_params(which="both", length=0, pad=6)
    area.grid(visible=True, axis="y")
    area.set_axisbelow(True)
    return figure, area


def whole_numbers(axis: "Axes", *, least_span: float = 1.0) -> None:
    """Label the x axis with whole numbers, few enough to stand side by side."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = axis.get_xlim()
    if high - low < least_span:
        axis.set_xlim(low - least_span / 2, high + least_span / 2)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def row_height(rows: int) -> float:
    """Return the height of a row with a name, in pixels: few rows may fill the figure.

    >>> row_height(2), row_height(8), row_height(20)
    (34.0, 23.75, 20.0)
    """
    return min(34.0, max(20.0, 190 / rows))


def plain_numbers(axis: "Axes", which: Literal["x", "y"] = "y", *, whole: bool = False) -> None:
    """Label an axis with short numbers; counts with whole ones."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    chosen = axis.yaxis if which == "y" else axis.xaxis
    if chosen.get_scale() == "linear":
        chosen.set_major_locator(MaxNLocator(nbins=5, integer=whole))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def tick(value: float) -> str:
    """Return a short number for an axis.

    >>> tick(0.25), tick(12500.0), tick(3e7)
    ('0.25', '12.5k', '30M')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if unit <= abs(value) < 1e12:
            return f"{number(value / (1e3 if name == 'k' else unit))}{name}"
    return number(value)


def thin(length: int, most: int) -> Sequence[int]:
    """Return at most ``most`` positions out of ``length``, evenly spaced, both ends among them.

    >>> thin(5, most=3)
    [0, 2, 4]
    """
    if length <= most:
        return range(length)
    return sorted({round(step * (length - 1) / (most - 1)) for step in range(most)})


# --- below: from a figure to a piece of a page --------------------------------------------------

_OPENING = re.compile(r"^.*?<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
_NOISE = re.compile(r"<metadata>.*?</metadata>|<style .*?</style>|<defs>\s*</defs>|<!--.*?-->", re.DOTALL)
_COLOUR = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})")
_STYLE = re.compile(r"style=\"[^\"]*\"")
_FONT = re.compile(r" font-family: [^;\"]*;?")
_PATH = re.compile(r" d=\"([^\"]*)\"")
_LONG = re.compile(r"-?\d+\.\d{2,}")
_ID = re.compile(r" id=\"([^\"]*)\"")
_USED = re.compile(r"(?:url\(#|href=\"#)([^\")]+)")


def to_svg(figure: "Figure", key: str, alternative: str) -> str:
    """Return a figure as an ``<svg>`` element.

    Args:
        figure: The figure.
        key: A word that no other figure of the page has; keeps the ids of figures apart.
        alternative: What the figure shows, for those who do not see it.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _NOISE.sub("", file.getvalue())
    box = _OPENING.match(text)
    assert box is not None
    label = html.escape(alternative)
    opening = f'<svg viewBox="{box.group(1)}" role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    body = _PATH.sub(_shorten, text[box.end() :])
    body = _STYLE.sub(lambda style: _FONT.sub("", _COLOUR.sub(_to_variable, style.group())), body)
    return opening + _own_ids(re.sub(r">\s+<", "><", body), key)


def _to_variable(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match.group(2))
    return f"{match.group(1)}: var(--{name})" if name else match.group()


def _shorten(match: re.Match[str]) -> str:
    points = _LONG.sub(lambda value: f"{float(value.group()):.1f}", match.group(1))
    return f' d="{" ".join(points.split())}"'


def _own_ids(body: str, key: str) -> str:
    """Drop ids that nothing refers to, and make the others this figure's own."""
    used = set(_USED.findall(body))
    body = _ID.sub(lambda match: f' id="{key}-{match.group(1)}"' if match.group(1) in used else "", body)
    return _USED.sub(
        lambda match: match.group().removesuffix(match.group(1)) + f"{key}-{match.group(1)}", body
    )
