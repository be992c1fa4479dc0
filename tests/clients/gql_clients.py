"""gql for Python against the proxy, sync and async; see clients.test.mjs."""

import asyncio
import json
import os
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport, HTTPXTransport

URL = os.environ["FLUENT_GRAPHQL_URL"]
CONTROL = os.environ["FLUENT_SANDBOX_CONTROL_URL"]
LONG = os.environ["LONG_QUERY"]

ME = "query Me { me { username } }"
CREATE = "mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { ref } }"
TIMEOUT = 60


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(CONTROL + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def counts():
    return control("GET", "/seen")["counts"]


def order(ref):
    items = [{"ref": f"{ref}-1", "productRef": "SKU_00001", "quantity": 1}]
    return GraphQLRequest(CREATE, variable_values={"input": {"ref": ref, "type": "HD", "items": items}})


def same(left, right):
    if left != right:
        sys.exit(f"{left!r} is not {right!r}")


def is_clash(error):
    same(error.errors[0]["extensions"]["code"], "C0120E")


def sync(kind):
    transport = HTTPXTransport(url=URL, timeout=TIMEOUT)
    # A session is one connection, or some; each of many threads has a client of its own.
    def ask(request):
        with Client(transport=HTTPXTransport(url=URL, timeout=TIMEOUT), execute_timeout=None) as session:
            return session.execute(request)

    with Client(transport=transport) as session:
        same(session.execute(GraphQLRequest(ME))["me"]["username"], "demo")
        same(session.execute(order(f"{kind}-1"))["createOrder"]["ref"], f"{kind}-1")
        try:
            session.execute(order(f"{kind}-1"))
            sys.exit("no clash")
        except TransportQueryError as error:
            is_clash(error)
        assert len(json.dumps(session.execute(GraphQLRequest(LONG)))) > 2_000_000
        control("POST", "/revoke", {})
        before = counts()
        same(session.execute(order(f"{kind}-2"))["createOrder"]["ref"], f"{kind}-2")
        after = counts()
        same(after["mutations"] - before["mutations"], 1)
        same(after["api_unauthorized"] - before["api_unauthorized"], 1)
    refs = [f"{kind}-many-{number}" for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        same([data["createOrder"]["ref"] for data in pool.map(ask, map(order, refs))], refs)
    # Who does not wait for long leaves in the middle.
    control("POST", "/faults", {"place": "api", "fault": "hang", "times": "always"})
    try:
        with Client(transport=HTTPXTransport(url=URL, timeout=0.5)) as session:
            session.execute(GraphQLRequest(ME))
        sys.exit("it was answered")
    except Exception as error:
        assert "timed out" in repr(error).lower() or "timeout" in repr(error).lower(), repr(error)
    control("DELETE", "/faults")
    same(ask(GraphQLRequest(ME))["me"]["username"], "demo")


async def asynchronous(kind):
    async with Client(transport=HTTPXAsyncTransport(url=URL, timeout=TIMEOUT), execute_timeout=TIMEOUT) as session:
        same((await session.execute(GraphQLRequest(ME)))["me"]["username"], "demo")
        same((await session.execute(order(f"{kind}-1")))["createOrder"]["ref"], f"{kind}-1")
        try:
            await session.execute(order(f"{kind}-1"))
            sys.exit("no clash")
        except TransportQueryError as error:
            is_clash(error)
        assert len(json.dumps(await session.execute(GraphQLRequest(LONG)))) > 2_000_000
        refs = [f"{kind}-many-{number}" for number in range(50)]
        many = await asyncio.gather(*(session.execute(order(ref)) for ref in refs))
        same([data["createOrder"]["ref"] for data in many], refs)
        control("POST", "/faults", {"place": "api", "fault": "hang", "times": "always"})
        known = counts()["api_requests"]
        cancelled = asyncio.create_task(session.execute(GraphQLRequest(ME)))
        while counts()["api_requests"] == known:
            await asyncio.sleep(0)
        cancelled.cancel()
        try:
            await cancelled
            sys.exit("it was answered")
        except asyncio.CancelledError:
            pass
        control("DELETE", "/faults")
        control("POST", "/revoke", {})
        before = counts()
        same((await session.execute(order(f"{kind}-2")))["createOrder"]["ref"], f"{kind}-2")
        after = counts()
        same(after["mutations"] - before["mutations"], 1)
        same(after["api_unauthorized"] - before["api_unauthorized"], 1)


sync("sync")
asyncio.run(asynchronous("async"))
