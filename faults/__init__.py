"""Faults on real servers under load, and the ledger that shows what they cost; no part of the wheel."""
