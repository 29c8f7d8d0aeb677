"""Fuzzing of everything that reads what others have written; docs/fuzzing.md says how to run it."""
