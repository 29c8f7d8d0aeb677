"""L2: how the engine reaches a server."""
