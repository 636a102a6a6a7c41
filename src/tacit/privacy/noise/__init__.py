"""Noise that protects somebody: drawn from AES-CTR, rounded to a grid, added in integers."""

from tacit.privacy.noise.add import NoiseLane, add_local_noise, add_noise, check_lanes, lanes_of
from tacit.privacy.noise.draws import standard_laplace, standard_normals
from tacit.privacy.noise.keys import NoiseKeys, SeededKeys, SystemKeys
from tacit.privacy.noise.past import PastKeys, PastVectors, StepKey
from tacit.privacy.noise.sources import FreshNoise, Noise, StoredNoise
from tacit.privacy.noise.wrapping import KeyContext, seal, unseal, unwrap, wrap

__all__ = [
    "FreshNoise",
    "KeyContext",
    "Noise",
    "NoiseKeys",
    "NoiseLane",
    "PastKeys",
    "PastVectors",
    "SeededKeys",
    "StepKey",
    "StoredNoise",
    "SystemKeys",
    "add_local_noise",
    "add_noise",
    "check_lanes",
    "lanes_of",
    "seal",
    "standard_laplace",
    "standard_normals",
    "unseal",
    "unwrap",
    "wrap",
]
