"""The command line: ``tacit new | plan | run | evaluate | report | compare | doctor``."""

from tacit.cli.app import main

__all__ = ["main"]
