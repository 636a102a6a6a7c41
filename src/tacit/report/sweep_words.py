"""How settings of a sweep are named, and what no guarantee covers."""

from collections.abc import Iterable, Mapping
from typing import Any

from tacit.report import words

HEADING = "Tuning is not covered"
TUNING = (
    f"{HEADING}: choosing settings by trying them on private data is itself not covered by any "
    "privacy guarantee. The epsilon of a run holds for that run alone; whoever publishes the best of several "
    "runs, or settings found by comparing them, reveals more than it says. Choose settings on public data, "
    "or count all runs together."
)
"""Said wherever a sweep was private (Papernot and Steinke 2022 measure how much a best run reveals)."""
_LONGEST = 40  # characters of a value


def claims_privacy(privacy: str) -> bool:
    """Tell whether a guarantee in words is one.

    >>> claims_privacy("not private: no differential privacy"), claims_privacy("user-level, epsilon 2")
    (False, True)
    """
    claim = privacy.strip().lower()
    return bool(claim) and not claim.startswith("not private")


def concerns_privacy(key: str) -> bool:
    """Tell whether a setting belongs to the privacy of a job.

    >>> concerns_privacy("privacy.epsilon"), concerns_privacy("clipping_bound")
    (True, False)
    """
    return key.partition(".")[0] == "privacy"


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return for each setting the shortest end of its path that tells it from the others.

    >>> short_names(["rounds", "algorithm.local.lr", "algorithm.server.lr"])
    {'rounds': 'rounds', 'algorithm.local.lr': 'local.lr', 'algorithm.server.lr': 'server.lr'}
    """
    paths = {key: key.split(".") for key in keys}
    return {
        key: _shortest(path, [other for other in paths.values() if other != path])
        for key, path in paths.items()
    }


def _shortest(path: list[str], others: list[list[str]]) -> str:
    for length in range(1, len(path)):
        if all(other[-length:] != path[-length:] for other in others):
            return ".".join(path[-length:])
    return ".".join(path)


def value(plain: Any) -> str:
    """Return a setting's value in short.

    >>> value(0.5), value(None), value({"type": "poisson", "rate": 0.1})
    ('0.5', 'none', 'poisson rate=0.1')
    """
    if plain is None:
        return "none"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        return f"{plain:.10g}"
    if isinstance(plain, Mapping):
        kind = [str(plain["type"])] if "type" in plain else []
        others = [f"{name}={value(below)}" for name, below in plain.items() if name != "type"]
        return words.clean(" ".join([*kind, *others]), _LONGEST)
    if isinstance(plain, list | tuple):
        return words.clean("+".join(map(value, plain)) or "empty", _LONGEST)
    return words.clean(str(plain), _LONGEST)


def point(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return a point's settings in short.

    >>> point({"algorithm.local.lr": 0.1, "seed": 1}, {"algorithm.local.lr": "lr", "seed": "seed"})
    'lr=0.1,seed=1'
    """
    return ",".join(f"{names[key]}={value(plain)}" for key, plain in settings.items())
