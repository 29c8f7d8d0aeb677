"""L0: pure values. Nothing in here performs I/O, reads a clock or knows a server."""
