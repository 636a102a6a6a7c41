"""What an update is worth that was trained from a model that is no longer the newest."""


def staleness_weight(staleness: int, exponent: float) -> float:
    """Return ``(1 + staleness) ** -exponent``, the polynomial weight of Xie et al. 2019 (arXiv 1903.03934).

    It is at most 1, and a function of public numbers alone. FedBuff has the exponent 1/2 (Nguyen et al. 2022,
    arXiv 2106.06639).

    Args:
        staleness: Versions of the model that were committed since the one that was trained from.
        exponent: How fast the weight falls; 0 lets every update count in full.

    Raises:
        ValueError: One of them is negative: then an old update would count for more than a new one.

    >>> staleness_weight(0, 0.5), staleness_weight(3, 0.5)
    (1.0, 0.5)
    """
    if staleness < 0 or not 0 <= exponent < float("inf"):
        raise ValueError(f"no weight for a staleness of {staleness} and an exponent of {exponent}")
    return float((1.0 + staleness) ** -exponent)
