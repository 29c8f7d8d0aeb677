"""Signed-in users behind nginx while the store's primary is killed: docs/reliability.md, "Behind nginx".

    python -m faults.front                           three runs of every framework, behind Sentinel and on a Cluster
    python -m faults.front flask --kind cluster      of one of them

nginx hands the requests in turn to three processes of the framework's test app (tests/frameworks/apps). Users are
signed in; each reads and writes its session again and again, others sign in meanwhile. Then the primary is killed (-9).
It is wrong if any answer is an error other than a 503 with Retry-After, takes the cookie of somebody signed in away or
replaces it, or shows somebody signed in as anonymous or as another; or if anybody is not known in the end.
"""
