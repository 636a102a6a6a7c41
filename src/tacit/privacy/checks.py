"""Which settings of privacy go together, and which relation they are accounted under."""

from tacit.core.errors import PlanError
from tacit.core.privacy import Adjacency
from tacit.privacy.sampling import SamplingFacts
from tacit.privacy.settings import AdaptiveClipping, FixedClipping, Privacy

_WHERE = "$.privacy"


def check_settings(privacy: Privacy, sampling: SamplingFacts) -> None:
    """Refuse what does not go together.

    Raises:
        PlanError: What does not, why, and what to change.
    """
    if privacy.trust == "distributed":
        what = "noise that clients add together is not available yet"
        raise PlanError("T163", what, where=f"{_WHERE}.trust", fix='Use trust="central" or trust="local".')
    _check_delta(privacy, sampling)
    _check_clipping(privacy)
    _check_separation(privacy, sampling)
    if privacy.unit == "record":
        _check_record(privacy)


def relation_of(privacy: Privacy, sampling: SamplingFacts) -> tuple[Adjacency, str]:
    """Return the relation to account under, and why sampling gains nothing (empty where it does).

    Raises:
        PlanError: ``add_remove`` is asked for where nothing makes it true.
    """
    because = _unamplified_because(privacy, sampling)
    if privacy.adjacency is None:
        return ("zero_out" if because else "add_remove"), because
    if privacy.adjacency == "add_remove" and because:
        raise PlanError(
            "T162",
            f"add_remove cannot be claimed: {because}",
            where=f"{_WHERE}.adjacency",
            fix='Use "zero_out" (the default here), or a Poisson cohort that closes at its deadline only.',
        )
    if privacy.adjacency == "zero_out" and not because:
        return "zero_out", "a secret sample is accounted for under add_remove and replace_one only"
    if privacy.adjacency == "replace_one" and not because and privacy.mechanism.distribution == "laplace":
        return "replace_one", "sampled Laplace noise is accounted for under add_remove only"
    return privacy.adjacency, because


def _unamplified_because(privacy: Privacy, sampling: SamplingFacts) -> str:
    if privacy.trust == "local":
        return "the server sees who sends what"
    if privacy.mechanism.is_correlated:
        return "correlated noise is accounted for over the whole run, whoever is sampled"
    if (privacy.min_separation or 1) > 1:
        return "a minimum separation makes each sample depend on those before it"
    if sampling.kind == "truncated_poisson" and privacy.mechanism.distribution == "laplace":
        return "a truncated Poisson sample is accounted for with Gaussian noise only"
    return sampling.reveals()


def _check_delta(privacy: Privacy, sampling: SamplingFacts) -> None:
    # With delta = 1 / population a mechanism that publishes one unit in full would pass.
    most = 1 / (10 * sampling.population)
    if privacy.delta > most * (1 + 1e-9) and not privacy.allow_large_delta:
        raise PlanError(
            "T161",
            f"delta {privacy.delta:g} is larger than 1 / (10 x {sampling.population} {privacy.unit}s)",
            where=f"{_WHERE}.delta",
            fix=f"Choose at most {most:.3g}, or insist with allow_large_delta=true.",
        )


def _check_clipping(privacy: Privacy) -> None:
    mechanism, clipping = privacy.mechanism, privacy.clipping
    if mechanism.is_correlated and clipping.is_adaptive:
        raise _needs_fixed(
            "T164", "correlated noise adds up over steps, so its scale cannot follow a moving bound"
        )
    if mechanism.distribution == "laplace" and not isinstance(clipping, FixedClipping):
        raise _needs_fixed("T169", "Laplace noise is measured against one fixed L1 bound")
    if mechanism.distribution == "laplace" and mechanism.is_correlated:
        what = "nothing is known of correlated Laplace noise"
        raise PlanError("T166", what, where=f"{_WHERE}.mechanism", fix="Use normal noise.")
    if privacy.trust == "local" and mechanism.is_correlated:
        what = "clients that draw their noise alone know nothing of the noise of other steps"
        raise PlanError("T166", what, where=f"{_WHERE}.mechanism", fix="Use Gaussian() or Laplace().")
    if privacy.trust == "local" and clipping.is_adaptive:
        raise _needs_fixed(
            "T169", "under local trust the noise of every client's own bit would drown the bits"
        )
    if clipping.is_adaptive and not isinstance(clipping, AdaptiveClipping):
        raise _needs_fixed("T169", f"nothing is known of what {type(clipping).__name__} releases")


def _check_separation(privacy: Privacy, sampling: SamplingFacts) -> None:
    where = f"{_WHERE}.min_separation"
    if privacy.mechanism.is_correlated and privacy.min_separation is None and sampling.kind != "all":
        raise PlanError(
            "T165",
            "correlated noise needs to know how often one client takes part",
            where=where,
            fix="Set min_separation: the least number of steps between two of one client (1: every step).",
        )
    problem = sampling.least_separation_problem(privacy.min_separation or 1)
    if problem:
        raise PlanError("T173", problem, where=where, fix="Choose a smaller cohort or a smaller separation.")


def _check_record(privacy: Privacy) -> None:
    mechanism, where = privacy.mechanism, _WHERE
    if privacy.trust != "central":
        what, where = "records are protected by their site", f"{_WHERE}.trust"
        fix = 'Use trust="central": the site adds the noise, and nobody else sees the records.'
    elif mechanism.is_correlated or mechanism.distribution != "normal" or (privacy.min_separation or 1) > 1:
        what, where = (
            "DP-SGD inside a site is accounted for with independent normal noise",
            f"{_WHERE}.mechanism",
        )
        fix = "Use Gaussian() and no min_separation."
    elif not isinstance(privacy.clipping, FixedClipping):
        raise _needs_fixed("T169", "gradients of single records are clipped to one fixed bound")
    else:
        return
    raise PlanError("T172", what, where=where, fix=fix)


def _needs_fixed(code: str, why: str) -> PlanError:
    return PlanError(code, why, where=f"{_WHERE}.clipping", fix="Use FixedClipping(bound=...).")
