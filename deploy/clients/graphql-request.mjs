// npm install graphql graphql-request
import { GraphQLClient, gql } from "graphql-request";

// No token and no login: the proxy adds what Fluent wants.
const client = new GraphQLClient(process.env.FLUENT_GRAPHQL_URL ?? "http://localhost:4280/graphql");

const orders = gql`
  query Orders($first: Int!) {
    orders(first: $first) { edges { node { id ref status } } }
  }
`;
const data = await client.request(orders, { first: 3 });
for (const { node } of data.orders.edges) console.log(node.ref, node.status);
