"""From an update to what is sent, and back on the sum."""

from tacit.codec.adaptive_clip import REACH, WITHIN, AdaptiveClip
from tacit.codec.chain import Chain, Codec
from tacit.codec.clip import ClipL1, ClipL2
from tacit.codec.discount import Discount
from tacit.codec.on_grid import OnGrid
from tacit.codec.weigh import WEIGHT, Weigh
from tacit.codec.withhold import Withhold

__all__ = [
    "REACH",
    "WEIGHT",
    "WITHIN",
    "AdaptiveClip",
    "Chain",
    "ClipL1",
    "ClipL2",
    "Codec",
    "Discount",
    "OnGrid",
    "Weigh",
    "Withhold",
]
