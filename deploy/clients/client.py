# pip install "gql[httpx]"
import os

from gql import Client, gql
from gql.transport.httpx import HTTPXTransport

# No token and no login: the proxy adds what Fluent wants.
url = os.environ.get("FLUENT_GRAPHQL_URL", "http://localhost:4280/graphql")

orders = gql("""
    query Orders($first: Int!) {
      orders(first: $first) { edges { node { id ref status } } }
    }
""")
orders.variable_values = {"first": 3}
with Client(transport=HTTPXTransport(url=url)) as session:
    for edge in session.execute(orders)["orders"]["edges"]:
        print(edge["node"]["ref"], edge["node"]["status"])
