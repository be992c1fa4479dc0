// The vendor's own client against a running sandbox: what it understands, the sandbox says right.
//
// FLUENT_SANDBOX_URL: a sandbox with refresh tokens on and a token lifetime of 300 s.
// FLUENT_SANDBOX_CONTROL_URL: its control interface.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { createClient } from "@fluentcommerce/fc-connect-sdk";

const baseUrl = process.env.FLUENT_SANDBOX_URL;
const controlUrl = process.env.FLUENT_SANDBOX_CONTROL_URL;
assert.ok(baseUrl && controlUrl, "FLUENT_SANDBOX_URL and FLUENT_SANDBOX_CONTROL_URL name a running sandbox");

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

// A client of its own, so that each test starts with a login.
const connect = (changes = {}) =>
  createClient({
    config: {
      baseUrl,
      clientId: process.env.FLUENT_SANDBOX_CLIENT_ID ?? "demo-client",
      clientSecret: process.env.FLUENT_SANDBOX_CLIENT_SECRET ?? "demo-client-secret",
      username: process.env.FLUENT_SANDBOX_USERNAME ?? "demo",
      password: process.env.FLUENT_SANDBOX_PASSWORD ?? "demo-password",
      retailerId: "1",
      retryConfig: { baseRetryDelayMs: 100 },
      ...changes,
    },
    logger: quiet,
  });

const control = async (method, path, body) => {
  const response = await fetch(`${controlUrl}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response;
};
const counts = async () => (await (await control("GET", "/seen")).json()).counts;

const order = (ref) => ({
  query: `mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { id ref status } }`,
  variables: { input: { ref, type: "HD", items: [{ ref: `${ref}-1`, productRef: "SKU_00001", quantity: 1, price: 9.5 }] } },
});

let run = 0;
before(() => {
  run = Date.now();
});

test("it logs in once and asks who it is", async () => {
  const client = await connect();
  const before = await counts();
  const answers = await Promise.all([1, 2, 3].map(() => client.graphql({ query: "{ me { username } }" })));
  assert.deepEqual(answers.map((answer) => answer.data.me.username), ["demo", "demo", "demo"]);
  assert.equal((await counts()).password_logins - before.password_logins, 1);
});

test("it pages through all orders by the cursors on the edges", async () => {
  const client = await connect();
  const query = `query Orders($first: Int!, $after: String) {
    orders(first: $first, after: $after) { edges { node { ref } cursor } pageInfo { hasNextPage } } }`;
  const answer = await client.graphql({ query, variables: { first: 400 }, pagination: { enabled: true, maxPages: 10 } });
  const refs = new Set(answer.data.orders.edges.map((edge) => edge.node.ref));
  assert.ok(refs.size >= 1000, `${refs.size}`);
});

test("it creates an order and finds it again", async () => {
  const client = await connect();
  const ref = `SDK_${run}`;
  const created = await client.graphql(order(ref));
  assert.equal(created.data.createOrder.ref, ref);
  const found = await client.graphql({ query: `query($ref: String) { order(ref: $ref) { id } }`, variables: { ref } });
  assert.equal(found.data.order.id, created.data.createOrder.id);
});

test("a business error comes as an error of GraphQL, with its code", async () => {
  const client = await connect();
  const twice = order(`SDK_TWICE_${run}`);
  await client.graphql(twice);
  await assert.rejects(client.graphql(twice), (error) => {
    assert.match(JSON.stringify([error, error.message, error.errors]), /C0120E|exists/);
    return true;
  });
});

test("it survives an expiry by refreshing", async () => {
  // To a client with so large a margin every token is at its end.
  const client = await connect({ retryConfig: { baseRetryDelayMs: 100, tokenExpiryBufferSeconds: 300 } });
  await client.graphql({ query: "{ me { id } }" });
  const before = await counts();
  for (let i = 0; i < 3; i++) {
    const answer = await client.graphql({ query: "{ me { username } }" });
    assert.equal(answer.data.me.username, "demo");
  }
  const after = await counts();
  assert.equal(after.refreshes - before.refreshes, 3);
  assert.equal(after.password_logins - before.password_logins, 0);
});

test("it survives a token that dies early", async () => {
  const client = await connect();
  await client.graphql({ query: "{ me { id } }" });
  const before = await counts();
  await control("POST", "/skew", { forward_ms: 301_000 });
  const created = await client.graphql(order(`SDK_EARLY_${run}`));
  assert.ok(created.data.createOrder.id);
  const after = await counts();
  assert.equal(after.api_unauthorized - before.api_unauthorized, 1);
  assert.equal(after.refreshes - before.refreshes, 1);
  assert.equal(after.mutations - before.mutations, 1);
});

test("events and jobs go through", async () => {
  const client = await connect();
  const name = `SDK_${run}`;
  const event = { name, entityType: "ORDER", entityRef: name, retailerId: "1" };
  assert.ok((await client.sendEvent(event, "async")).id);
  await assert.rejects(client.sendEvent({ ...event, name: `${name}_NO_MATCH` }, "sync"));
  const found = await client.getEvents({ "context.entityType": "ORDER", "context.entityRef": name });
  assert.deepEqual(found.results.map((event) => event.eventStatus), ["PENDING", "NO_MATCH"]);
  const job = await client.createJob({ name, retailerId: "1" });
  const batch = await client.sendBatch(job.id, { entityType: "INVENTORY", action: "UPSERT", entities: [{ qty: 1 }] });
  assert.equal((await client.getBatchStatus(job.id, batch.id)).status, "COMPLETE");
});
