"""One app for each peer, with the peer's defaults. Each imports its own peer only: see bench.field for the routes."""
