"""Populations: data sources, who holds which example, and a client's examples when asked for."""

from tacit.data.label_skew import Dirichlet, Shards
from tacit.data.partition import IID, Assignment, Natural, Partitioner, QuantitySkew
from tacit.data.population import Population
from tacit.data.source import Source, Split
from tacit.data.sources.bundled import BreastCancer, Digits
from tacit.data.sources.credit import CreditDefault
from tacit.data.sources.heart import HeartDisease
from tacit.data.sources.mnist import MNIST
from tacit.data.sources.shakespeare import Shakespeare
from tacit.data.sources.sms import SMS
from tacit.data.sources.tables import CSV, Parquet
from tacit.data.summary import PopulationSummary
from tacit.data.table import Table

# As one speaks: `tacit.data.digits().split(...)`.
breast_cancer = BreastCancer
credit_default = CreditDefault
csv = CSV
digits = Digits
heart_disease = HeartDisease
mnist = MNIST
parquet = Parquet
shakespeare = Shakespeare
sms = SMS

__all__ = [
    "CSV",
    "IID",
    "MNIST",
    "SMS",
    "Assignment",
    "BreastCancer",
    "CreditDefault",
    "Digits",
    "Dirichlet",
    "HeartDisease",
    "Natural",
    "Parquet",
    "Partitioner",
    "Population",
    "PopulationSummary",
    "QuantitySkew",
    "Shakespeare",
    "Shards",
    "Source",
    "Split",
    "Table",
    "breast_cancer",
    "credit_default",
    "csv",
    "digits",
    "heart_disease",
    "mnist",
    "parquet",
    "shakespeare",
    "sms",
]
