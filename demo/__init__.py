"""The demo: one session that travels between a FastAPI, a Flask and a Django server. `make demo` runs it."""
