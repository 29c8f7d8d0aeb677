"""A process that uses an embedded store: it answers each line of its input with one line of JSON.

It ends, as any Python process does, with its input.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

from redis import Redis

from coatcheck.runtime.embedded import Embedded


def process_id(path):
    """Ask the server at the socket *path* for its process id."""
    with Redis(unix_socket_path=path) as redis:
        return redis.info("server")["process_id"]


def forked(work):
    """Fork a child that does *work*, writes its answer and lives on; return the answer."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, json.dumps(work()).encode())
        threading.Event().wait()
    return json.loads(os.read(read_end, 4096))


def forked_exit(work):
    """Fork a child that does *work* and ends as Python does; return its status."""
    child = os.fork()
    if child == 0:
        work()
        sys.exit(0)
    return os.waitpid(child, 0)[1]


def forked_while_starting(folder):
    """Fork children all the while another thread starts and leaves a second store."""
    second = Embedded(Path(folder))
    starting = threading.Thread(target=second.socket)
    starting.start()
    children = []
    while starting.is_alive():
        child = os.fork()
        if child == 0:
            second.leave()  # it may have been forked after joining
            threading.Event().wait()
        children.append(child)
        time.sleep(0.002)
    second.leave()
    return children


def answer(store, line):
    """Do what *line* says."""
    match line.split(" ", 3):
        case ["revive"]:
            return {"server": process_id(store.revive())}
        case ["fork"]:
            return {"child": forked(lambda: {"pid": os.getpid(), "server": process_id(store.socket())})}
        case ["fork", "and", "leave"]:
            return {"status": forked_exit(store.leave) or forked_exit(store.socket)}
        case ["fork", "while", "starting", folder]:
            return {"children": forked_while_starting(folder)}
    return {"unknown": line}


def write(content):
    """Write one line."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main():
    """Join, say so, then answer."""
    store = Embedded(Path(sys.argv[1]))
    path = store.socket()
    write({"server": process_id(path), "keys": store.keys()})
    for line in sys.stdin:
        write(answer(store, line.strip()))


if __name__ == "__main__":
    main()
