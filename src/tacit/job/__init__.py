"""Settings to objects: read a job, check it and price it before it runs."""

from tacit.job.job import SCHEMA_VERSION, Job, digest
from tacit.job.load import LoadedJob, PopulationLike, load_job
from tacit.job.plan import Plan, make_plan, model_seed
from tacit.job.private import headline
from tacit.job.secure import SecurePlan

__all__ = [
    "SCHEMA_VERSION",
    "Job",
    "LoadedJob",
    "Plan",
    "PopulationLike",
    "SecurePlan",
    "digest",
    "headline",
    "load_job",
    "make_plan",
    "model_seed",
]
