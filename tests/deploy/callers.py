"""Callers such as an application has, until SIGTERM lets them end what they are at; nothing is ever tried again.

    callers.py HOST:PORT HOST-HEADER [KIND…]

What they were answered comes out as JSON: how many answers of each kind, every failure, and which proxies answered.
"""

import http.client
import json
import signal
import sys
import threading

AUTHORITY, HOST, *WANTED = sys.argv[1:]
JSON = {"Host": HOST, "Content-Type": "application/json"}
SLOW = ("GET", "/api/v4.1/echo", None)
QUERY = ("POST", "/graphql", b'{"query":"{ me { id } }"}')
ended = threading.Event()
lock = threading.Lock()
told = {"answers": {}, "failures": [], "proxies": []}


def ask(connection, kind, request, keeps):
    method, path, body = request
    try:
        connection.request(method, path, body, JSON if keeps else {**JSON, "Connection": "close"})
        answer = connection.getresponse()
        said = answer.read()
        wrong = None if answer.status == 200 and b'"errors"' not in said else f"{answer.status} {said[:300]!r}"
        via = answer.getheader("via")
    except (OSError, http.client.HTTPException) as error:
        wrong, via = repr(error), None
        connection.close()
    with lock:
        told["answers"][kind] = told["answers"].get(kind, 0) + 1
        if wrong:
            told["failures"].append(f"{kind}: {wrong}")
        if via and via not in told["proxies"]:
            told["proxies"].append(via)


def call(kind, request, pause, keeps):
    connection = http.client.HTTPConnection(AUTHORITY, timeout=30)
    while True:
        ask(connection, kind, request, keeps)
        if ended.wait(pause):
            return


# How many, what for, with how long a pause, and whether they keep their connection.
KINDS = {
    "steady": (6, QUERY, 0.01, True),
    # Longer than a moment, shorter than `shutdown.delay`.
    "seldom": (2, QUERY, 2, True),
    "fresh": (2, QUERY, 0.02, False),
    "slow": (3, SLOW, 0, True),
    "slow-fresh": (2, SLOW, 0, False),
    "large": (1, ("POST", "/api/v4.1/upload", bytes(512 * 1024)), 0.05, True),
    "large-answer": (1, ("GET", "/api/v4.1/download?bytes=4000000", None), 0.05, True),
}

signal.signal(signal.SIGTERM, lambda *_: ended.set())
callers = [
    threading.Thread(target=call, args=(kind, *what))
    for kind, (count, *what) in KINDS.items()
    if kind in (WANTED or KINDS)
    for _ in range(count)
]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
json.dump(told, sys.stdout)
