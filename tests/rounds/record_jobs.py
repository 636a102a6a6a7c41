"""Small jobs that protect records, their sites, and what the ledgers of these say."""

from pathlib import Path
from typing import Any

import tacit
from tacit.privacy.ledger import Total
from tacit.store.ledger import LEDGER, Ledger
from tests.rounds import worlds

SIZES = {"basel": 20, "bern": 44, "chur": 20, "zug": 8}
DELTA = 1e-3


def population() -> tacit.Population:
    held = {name: worlds.examples(place, size) for place, (name, size) in enumerate(SIZES.items())}
    return tacit.Population.of(held, test=worlds.examples(999, 40))


def privacy(**settings: Any) -> tacit.Privacy:
    known: dict[str, Any] = {
        "unit": "record",
        "delta": DELTA,
        "clipping": tacit.FixedClipping(bound=0.7),
        "randomness": "seeded",
    }
    if "epsilon" not in settings:
        known["noise_multiplier"] = 1.5
    return tacit.Privacy(**(known | settings))


def job(**settings: Any) -> tacit.Job:
    """Return a job of five rounds; each site takes as many steps as it has batches of 8."""
    known: dict[str, Any] = {
        "name": "clinics",
        "local": tacit.LocalSGD(lr=0.3, batch_size=8),
        "server": tacit.ServerSGD(),
        "cohort": tacit.All(),
        "rounds": 5,
        "privacy": privacy(),
    }
    return worlds.job(**(known | settings))


def spent(folder: Path, site: str) -> Total:
    """Return what a site's own ledger says."""
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        return ledger.spent(f"clinics/{site}")


def rounds_charged(folder: Path) -> dict[str, int]:
    """Return how many rounds each site was charged for."""
    return {site: sum(spent(folder, site).events.values()) for site in SIZES}
