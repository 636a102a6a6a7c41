"""Secure sum: many clients' rows added up so that nobody sees a single one.

Names are resolved when they are first used (PEP 562): who needs the settings alone loads no cryptography.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.secagg.agreement import Agree, RememberingAgreement
    from tacit.secagg.certificate import RoundCertificate
    from tacit.secagg.client import SecureClient
    from tacit.secagg.epoch_client import EpochClient
    from tacit.secagg.epoch_events import EpochRules
    from tacit.secagg.epochs import Epochs
    from tacit.secagg.groups import divide
    from tacit.secagg.ideal import Fate, fate
    from tacit.secagg.identity import (
        Authority,
        Certificate,
        Enrolment,
        Identity,
        RememberingVerifier,
        Revocation,
        Verifier,
    )
    from tacit.secagg.masks import Mask, add_masks
    from tacit.secagg.parameters import GroupParameters, Threat, find_parameters, weaker_than
    from tacit.secagg.relay import Relay, relay_ring, relay_terms
    from tacit.secagg.ring import LaneGroup, Ring, lane_bits
    from tacit.secagg.server import SecureServer
    from tacit.secagg.settings import SecureAggregation
    from tacit.secagg.terms import Terms
    from tacit.secagg.unmask import Unmasking, chunks

_WHERE = {
    "Agree": "agreement",
    "Authority": "identity",
    "Certificate": "identity",
    "Enrolment": "identity",
    "EpochClient": "epoch_client",
    "EpochRules": "epoch_events",
    "Epochs": "epochs",
    "Fate": "ideal",
    "GroupParameters": "parameters",
    "Identity": "identity",
    "LaneGroup": "ring",
    "Mask": "masks",
    "Relay": "relay",
    "RememberingAgreement": "agreement",
    "RememberingVerifier": "identity",
    "Revocation": "identity",
    "Ring": "ring",
    "RoundCertificate": "certificate",
    "SecureAggregation": "settings",
    "SecureClient": "client",
    "SecureServer": "server",
    "Terms": "terms",
    "Threat": "parameters",
    "Unmasking": "unmask",
    "Verifier": "identity",
    "add_masks": "masks",
    "chunks": "unmask",
    "divide": "groups",
    "fate": "ideal",
    "find_parameters": "parameters",
    "lane_bits": "ring",
    "relay_ring": "relay",
    "relay_terms": "relay",
    "weaker_than": "parameters",
}

__all__ = [
    "Agree",
    "Authority",
    "Certificate",
    "Enrolment",
    "EpochClient",
    "EpochRules",
    "Epochs",
    "Fate",
    "GroupParameters",
    "Identity",
    "LaneGroup",
    "Mask",
    "Relay",
    "RememberingAgreement",
    "RememberingVerifier",
    "Revocation",
    "Ring",
    "RoundCertificate",
    "SecureAggregation",
    "SecureClient",
    "SecureServer",
    "Terms",
    "Threat",
    "Unmasking",
    "Verifier",
    "add_masks",
    "chunks",
    "divide",
    "fate",
    "find_parameters",
    "lane_bits",
    "relay_ring",
    "relay_terms",
    "weaker_than",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit.secagg' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tacit.secagg.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
