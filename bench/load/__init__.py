"""Benchmarks under load; this module holds what every session of theirs holds."""
