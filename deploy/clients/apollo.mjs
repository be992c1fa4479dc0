// npm install graphql rxjs @apollo/client
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client/core";

// No token and no login: the proxy adds what Fluent wants.
const client = new ApolloClient({
  link: new HttpLink({ uri: process.env.FLUENT_GRAPHQL_URL ?? "http://localhost:4280/graphql" }),
  cache: new InMemoryCache(),
});

const orders = gql`
  query Orders($first: Int!) {
    orders(first: $first) { edges { node { id ref status } } }
  }
`;
const { data } = await client.query({ query: orders, variables: { first: 3 } });
for (const { node } of data.orders.edges) console.log(node.ref, node.status);
