"""The accountant: what a list of privacy events amounts to, and the noise that keeps within a limit."""

from tacit.privacy.accounting.accountant import Curve, affordable, epsilon, epsilon_at, epsilon_curve
from tacit.privacy.accounting.calibration import calibrate
from tacit.privacy.accounting.gaussian import gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier
from tacit.privacy.accounting.grouping import Spend, Spent, joint, mu_gdp, unamplified, zcdp

__all__ = [
    "Curve",
    "Spend",
    "Spent",
    "affordable",
    "calibrate",
    "epsilon",
    "epsilon_at",
    "epsilon_curve",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_noise_multiplier",
    "joint",
    "mu_gdp",
    "unamplified",
    "zcdp",
]
