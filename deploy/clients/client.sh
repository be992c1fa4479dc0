#!/bin/sh
# No token and no login: the proxy adds what Fluent wants.
curl --fail-with-body --silent --show-error "${FLUENT_GRAPHQL_URL:-http://localhost:4280/graphql}" \
  --json '{
    "query": "query Orders($first: Int!) { orders(first: $first) { edges { node { id ref status } } } }",
    "variables": { "first": 3 }
  }'
