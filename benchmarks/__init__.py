"""Benchmarks of tacit: one module a subject, each measured beside its reference in the same run."""
