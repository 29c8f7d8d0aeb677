"""Local topologies: real servers on this machine, for tests and for `coatcheck up` (docs/topologies.md)."""
