"""Epochs of one world, each with terms and a key of its own."""

from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.secagg.epoch_events import EpochRules
from tacit.secagg.epochs import Epochs
from tacit.secagg.terms import Terms
from tests.unit.secagg.playing import World, make_world

WORLD = make_world(5)


def model(version: int) -> bytes:
    return bytes([version % 256]) * 32


@dataclass
class Setting:
    """A world, and terms for each of its epochs with a key of their own."""

    world: World = WORLD
    keys: dict[int, X25519PrivateKey] = field(default_factory=dict)
    made: list[Terms] = field(default_factory=list)

    def terms(self, *, number: int, round: int, base_round: int, model_sha256: bytes) -> Terms:
        key = self.keys[number] = X25519PrivateKey.generate()
        self.made.append(
            msgspec.structs.replace(
                self.world.terms,
                round=round,
                base_round=base_round,
                model_sha256=model_sha256,
                server_key=key.public_key().public_bytes_raw(),
            )
        )
        return self.made[-1]

    def epochs(self, *, versions: int = 1, size: int = 5, staleness: int = 2) -> Epochs:
        rules = EpochRules(size, min_cohort=3, max_staleness=staleness)
        return Epochs(rules, {version: model(version) for version in range(versions)}, self.terms)
