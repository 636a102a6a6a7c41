"""The workload W2 as a job file: ``tacit run benchmarks/w2_job.py`` from the repository's root."""

import tacit
from benchmarks.tacit_workloads import make_job, make_population

job = make_job("w2")


def population() -> tacit.Population:
    """Return its users."""
    return make_population("w2")
