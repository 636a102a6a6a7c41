"""Noise that a client adds to what it sends, so that it need not trust anybody."""

import math
from typing import ClassVar

import numpy as np

from tacit.core.bounds import Positive
from tacit.core.layout import Rows
from tacit.core.part import Part
from tacit.core.privacy import Randomness
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total
from tacit.privacy.mechanisms import Distribution
from tacit.privacy.noise import FreshNoise, NoiseKeys, NoiseLane, SeededKeys, SystemKeys, add_local_noise

_RELEASE_BITS = 20  # the grid of what a client sends has steps of 2^-20 of the noise's scale


class LocalNoise(Part, frozen=True, tag="local_noise"):
    """Add to each client's clipped update, on the client, the whole noise that protects it.

    The last stage of a chain: nothing after it may look at what was there before. A row that is not finite
    becomes noise around zero.

    Attributes:
        scale: Standard deviation of normal noise, scale of Laplace noise.
        distribution: Which of them.
        randomness: Where the noise comes from.
    """

    adds_noise: ClassVar[bool] = True  # so nobody makes a row zero behind it

    scale: Positive
    distribution: Distribution = "normal"
    randomness: Randomness = "system"

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        reach = self.scale * self._largest
        for segment in spec.segments:
            l2_bound = segment.l2_bound
            spec = spec.change(
                segment.name,
                coordinate_bound=segment.coordinate_bound + reach,
                l2_bound=None if l2_bound is None else l2_bound + reach * math.sqrt(segment.size),
            )
        return spec

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        keys: NoiseKeys = SystemKeys() if self.randomness == "system" else SeededKeys(ctx.seed)
        noises = [
            FreshNoise((keys.key(ctx.round, "local", client),), distribution=self.distribution)
            for client in ctx.clients
        ]
        step = 2.0 ** (math.frexp(self.scale)[1] - 1 - _RELEASE_BITS)
        lanes = [NoiseLane(segment.size, step, self.scale) for segment in ctx.spec.segments]
        sent = np.array(rows, dtype=np.float32)
        add_local_noise(sent, lanes, noises)
        return sent, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total

    @property
    def _largest(self) -> float:
        return FreshNoise((b"",), distribution=self.distribution).largest * (1 + 2.0**-10)
