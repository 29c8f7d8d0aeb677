"""L1: what can be done with sessions, over any transport."""
