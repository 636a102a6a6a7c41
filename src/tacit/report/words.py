"""Numbers, sizes, times and names as a reader wants them."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

MISSING = "–"
_ABBREVIATIONS = {"auc": "AUC", "mse": "MSE", "mae": "MAE", "rmse": "RMSE"}


def clean(text: str, most: int = 300) -> str:
    r"""Return untrusted text on one line, without control characters, cut to ``most`` characters.

    >>> clean("ann\x1b[31m\nbob", most=8)
    'ann�[31…'
    """
    line = "".join(sign if sign.isprintable() else " " if sign.isspace() else "�" for sign in text)
    return line if len(line) <= most else line[: most - 1] + "…"


def number(value: float | None, digits: int = 4) -> str:
    """Return a measured value with so many significant digits; a dash if it is missing.

    >>> number(0.93128), number(1e9), number(None), number(float("inf"))
    ('0.9313', '1e+09', '–', 'not finite')
    """
    if value is None:
        return MISSING
    return f"{value:.{digits}g}" if math.isfinite(value) else "not finite"


def count(value: float) -> str:
    """Return a whole number with its thousands set apart.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{round(value):,}"


def amount(value: int, noun: str) -> str:
    """Return a count with its noun.

    >>> amount(1, "round"), amount(2000, "round")
    ('1 round', '2,000 rounds')
    """
    return f"{count(value)} {noun}" + ("" if value == 1 else "s")


def executor(name: str, group: int | None) -> str:
    """Return who trains, and how many clients at a time where that is more than bookkeeping.

    >>> executor("rules", 64), executor("rules", 1), executor("torch", 64)
    ('rules, 64 clients at a time', 'rules, 1 client at a time', 'torch')
    """
    return name if name == "torch" or group is None else f"{name}, {amount(group, 'client')} at a time"


def size(value: float) -> str:
    """Return bytes in decimal units, as networks are priced.

    >>> size(999), size(26_543), size(3.2e9)
    ('999 B', '26.5 kB', '3.2 GB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return (
        f"{value:.0f} {unit}"
        if unit == "B"
        else f"{value:.3g} {unit}"
        if value < 1000
        else f"{value:,.0f} {unit}"
    )


def duration(seconds: float) -> str:
    """Return a stretch of time.

    >>> duration(0.034), duration(75), duration(7260)
    ('34 ms', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def date(text: str) -> str:
    """Return an ISO 8601 date in words; what is no date stays as it is.

    >>> date("2025-05-03T14:02:11+00:00"), date("yesterday")
    ('3 May 2025, 14:02 UTC', 'yesterday')
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return clean(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def metric(name: str) -> str:
    """Return a metric's name in a sentence.

    >>> metric("top3_accuracy"), metric("auc"), metric("job.py:dice")
    ('top3 accuracy', 'AUC', 'dice')
    """
    spoken = clean(name.rpartition(":")[2].replace("_", " "), most=40)
    return _ABBREVIATIONS.get(spoken.lower(), spoken)


def title(text: str) -> str:
    """Return text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def listed(words: Iterable[str]) -> str:
    """Join words as in a sentence.

    >>> listed(["one", "two", "three"])
    'one, two and three'
    """
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last
