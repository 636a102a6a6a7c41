"""From an update to what is sent, and back on the sum."""

from tacit.codec.chain import Chain, Codec
from tacit.codec.clip import ClipL2
from tacit.codec.weigh import WEIGHT, Weigh

__all__ = ["WEIGHT", "Chain", "ClipL2", "Codec", "Weigh"]
