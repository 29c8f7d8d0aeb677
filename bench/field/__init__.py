"""What others' session libraries do in the situations that coatcheck is made for: docs/comparison.md.

    make field                     measures all peers and rewrites the tables of docs/comparison.md
    make field ARGS="starsessions" measures those whose name contains a word, and only shows the tables

Every peer is a small app in `apps`, with the same five routes, in an environment and a process of its own:

    /set?name=N&value=V            read the session, set one attribute; with wait=1 stop at the gate in between
    /show                          answer the session's attributes as JSON
    /login                         sign ada in, as one who has read no manual: session["user_id"] = "ada"
    /login?own=1                   sign ada in with what the peer's documentation has for it, if anything
    /logout                        sign out as the peer's documentation says
"""
