"""Data sets, one file each: what they need on disk and how it becomes a table."""
