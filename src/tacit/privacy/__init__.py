"""Differential privacy: plan, mechanisms, accounting, ledger rules and floor."""

from tacit.privacy.guarantee import Guarantee
from tacit.privacy.local import LocalNoise
from tacit.privacy.mechanisms import Mechanism
from tacit.privacy.plan import PrivacyPlan, plan_privacy
from tacit.privacy.sampling import SamplingFacts
from tacit.privacy.settings import AdaptiveClipping, Clipping, FixedClipping, Privacy, SegmentClipping

__all__ = [
    "AdaptiveClipping",
    "Clipping",
    "FixedClipping",
    "Guarantee",
    "LocalNoise",
    "Mechanism",
    "Privacy",
    "PrivacyPlan",
    "SamplingFacts",
    "SegmentClipping",
    "plan_privacy",
]
