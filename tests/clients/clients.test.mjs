// Clients that others wrote, pointed at the proxy: each does what its users do with it, and notices nothing.
//
// Those in other languages are programs in this folder that do the same; they end with a code other than 0 where something
// is not as it should be.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client/core";
import { createClient as createFluentClient } from "@fluentcommerce/fc-connect-sdk";
import { Client as UrqlClient, fetchExchange } from "@urql/core";
import { GraphQLClient } from "graphql-request";
import { startProxy, startSandbox } from "../programs.mjs";

const run = promisify(execFile);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const examples = here("../../deploy/clients");

const FRAGMENTS = readFileSync(here("schema.graphql"), "utf8");
const aliases = Array.from({ length: 30 }, (_, number) => `s${number}: __schema { ...Everything }`);
/** A query whose answer is longer than 2 MB. */
const LONG = `query Long { ${aliases.join(" ")} }\n${FRAGMENTS}`;

const ME = "query Me { me { username } }";
const FIND = "query Find($ref: String) { order(ref: $ref) { ref } }";
const CREATE = "mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { ref } }";
const order = (ref) => ({ input: { ref, type: "HD", items: [{ ref: `${ref}-1`, productRef: "SKU_00001", quantity: 1 }] } });

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** Each client as a function of a query, its variables and a signal that cancels it: to data, or to an error. */
const CLIENTS = {
  "graphql-request": (url) => {
    const client = new GraphQLClient(`${url}/graphql`);
    return (query, variables, signal) => client.request({ document: query, variables, signal });
  },
  "Apollo Client": (url) => {
    const client = new ApolloClient({ link: new HttpLink({ uri: `${url}/graphql` }), cache: new InMemoryCache() });
    return async (query, variables, signal) => {
      const options = { variables, context: { fetchOptions: { signal } }, fetchPolicy: "no-cache" };
      const isQuery = query.startsWith("query");
      const sent = isQuery ? client.query({ query: gql(query), ...options }) : client.mutate({ mutation: gql(query), ...options });
      return (await sent).data;
    };
  },
  urql: (url) => {
    const client = new UrqlClient({ url: `${url}/graphql`, exchanges: [fetchExchange], preferGetMethod: false });
    return (query, variables, signal) => new Promise((resolve, reject) => {
      const options = { requestPolicy: "network-only" };
      const sent = query.startsWith("query") ? client.query(query, variables, options) : client.mutation(query, variables, options);
      const { unsubscribe } = sent.subscribe(({ data, error }) => {
        // After the first result, as who listens on would share it with the next of the same query.
        queueMicrotask(() => unsubscribe());
        return error ? reject(error) : resolve(data);
      });
      // Who listens no more cancels.
      signal?.addEventListener("abort", () => {
        unsubscribe();
        reject(signal.reason);
      });
    });
  },
  // With a `fetch` in its context the vendor's client leaves the login to whoever gives it: here to the proxy.
  "the vendor's own": (url) => async (query, variables, signal) => {
    const client = await createFluentClient({ fetch: (path, options) => fetch(`${url}${path}`, { ...options, signal }), log: quiet });
    return (await client.graphql({ query, variables })).data;
  },
};

/** Waits until the proxy has nothing under way. */
async function idle(proxy) {
  for (;;) {
    const page = await (await fetch(`${proxy.admin}/metrics`)).text();
    if (page.includes("\nfluent_auth_proxy_requests_in_flight 0\n")) return;
  }
}

for (const [name, connect] of Object.entries(CLIENTS)) {
  test(`${name}: queries, mutations, errors, long answers, cancelled ones, many at once, a token that dies`, async (t) => {
    const sandbox = await startSandbox(t);
    const proxy = await startProxy(t, sandbox, { set: ["listen.paths=/graphql,/api/*"] });
    const ask = connect(proxy.url);
    const count = async (name) => (await sandbox.seen()).counts[name];

    assert.equal((await ask(ME)).me.username, "demo");

    assert.equal((await ask(CREATE, order("ONE"))).createOrder.ref, "ONE");
    assert.equal((await ask(FIND, { ref: "ONE" })).order.ref, "ONE");

    const clash = await ask(CREATE, order("ONE")).then(assert.fail, (error) => error);
    assert.match(JSON.stringify([clash, clash.message, clash.errors]), /C0120E|ref exists/);
    assert.equal(await count("clashes"), 1, "a business error is sent once");

    assert.ok(JSON.stringify(await ask(LONG)).length > 2_000_000);

    const fault = await sandbox.inject({ place: "api", fault: "hang", times: "always" });
    const abort = new AbortController();
    const before = await count("api_requests");
    const cancelled = ask(ME, undefined, abort.signal).then(assert.fail, (error) => error);
    while ((await count("api_requests")) === before);
    abort.abort();
    assert.ok(await cancelled);
    await idle(proxy);
    await sandbox.clearFaults(fault);

    const refs = Array.from({ length: 50 }, (_, number) => `MANY_${number}`);
    const created = await Promise.all(refs.map((ref) => ask(CREATE, order(ref))));
    assert.deepEqual(created.map((data) => data.createOrder.ref), refs);

    const [mutations, unauthorized] = [await count("mutations"), await count("api_unauthorized")];
    await sandbox.revoke();
    assert.equal((await ask(CREATE, order("AFTER"))).createOrder.ref, "AFTER");
    assert.deepEqual([await count("mutations"), await count("api_unauthorized")], [mutations + 1, unauthorized + 1]);
  });
}

/** A sandbox, a proxy before it, and an environment that names them to a program. */
async function programs(t, set = []) {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox, { set: ["listen.paths=/graphql,/api/*", ...set] });
  const url = `${proxy.url}/graphql`;
  const env = {
    ...process.env,
    FLUENT_GRAPHQL_URL: url,
    FLUENT_SANDBOX_CONTROL_URL: sandbox.control,
    LONG_QUERY: LONG,
    LONG_BODY: JSON.stringify({ query: LONG }),
  };
  return { sandbox, proxy, url, env };
}

test("gql for Python, sync and async", async (t) => {
  const { env } = await programs(t);
  await run(process.env.PYTHON, [here("gql_clients.py")], { env });
});

test("java.net.http, over HTTP/1.1 and asking for HTTP/2", async (t) => {
  const { env } = await programs(t);
  await run("java", [here("Clients.java")], { env });
});

test("curl, with every option that matters", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "clients-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, "proxy.sock");
  const { sandbox, proxy, url } = await programs(t, [`listen.address=localhost:0,unix:${socket}`]);
  const file = (name, text) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const curl = async (...args) => {
    const options = ["--silent", "--show-error", "--max-time", "60", ...args];
    return (await run("curl", options, { maxBuffer: 64 << 20 })).stdout;
  };
  const json = ["--header", "content-type: application/json"];
  const me = file("me.json", JSON.stringify({ query: ME }));
  const isMe = (text) => assert.equal(JSON.parse(text).data.me.username, "demo");
  const upload = file("upload", "x".repeat(3_000_000));
  const isUpload = (text) => assert.equal(JSON.parse(text).length, 3_000_000);

  for (const options of [
    [],
    ["--http1.0"],
    ["--http1.1"],
    ["--http2"],
    ["--http2-prior-knowledge"],
    ["--compressed"],
    ["--header", "Expect: 100-continue"],
    ["--header", "Transfer-Encoding: chunked"],
    ["--unix-socket", socket],
    ["--unix-socket", socket, "--http2-prior-knowledge"],
    ["--tcp-nodelay", "--no-keepalive"],
    ["--limit-rate", "50k"],
  ]) {
    t.diagnostic(options.join(" ") || "as it is");
    isMe(await curl(...options, ...json, "--data-binary", `@${me}`, url));
    const rest = `${proxy.url}/api/v4.1/upload`;
    if (!options.includes("--limit-rate")) isUpload(await curl(...options, ...json, "--data-binary", `@${upload}`, rest));
    const order = JSON.stringify({ query: CREATE, variables: { input: { ref: options.join(), type: "HD", items: [] } } });
    assert.equal(JSON.parse(await curl(...options, ...json, "--data-binary", order, url)).errors.length, 1, "an error in 200");
  }
  isMe(await curl("--get", "--data-urlencode", `query=${ME}`, url));
  isMe(await curl("--json", `@${me}`, url));

  // The same bytes, whichever way they come; `--raw` leaves them as they are on the wire.
  const long = file("long.json", JSON.stringify({ query: LONG }));
  const plain = await curl(...json, "--data-binary", `@${long}`, url);
  assert.ok(plain.length > 2_000_000);
  for (const options of [["--http2-prior-knowledge"], ["--compressed"], ["--unix-socket", socket]]) {
    assert.equal(await curl(...options, ...json, "--data-binary", `@${long}`, url), plain);
  }
  const download = `${proxy.url}/api/v4.1/download?bytes=100000`;
  const whole = await curl(download);
  assert.equal(await curl("--compressed", `${download}&gzip=1`), whole);
  assert.ok((await curl(`${download}&gzip=1`)).length < whole.length, "nothing is unpacked on the way");

  const head = await curl("--head", download);
  assert.match(head, /^HTTP\/1.1 200 OK\r\n/);
  assert.match(head, /content-length: 100000\r\n/i);
  assert.match(await curl("--head", "--http2-prior-knowledge", download), /^HTTP\/2 200/);

  // A body that is not wanted is never sent.
  const early = ["--header", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", `@${upload}`];
  const written = ["--output", "/dev/null", "--write-out", "%{http_code} %{size_upload}"];
  assert.equal(await curl(...early, ...json, ...written, `${proxy.url}/nowhere`), "404 0");

  // Over HTTP/1.1 alone: curl 7.88 uses no connection of HTTP/2 without TLS twice, with any server.
  const parallel = ["--parallel", "--parallel-max", "50", "--no-progress-meter", "--output", join(folder, "many-#1")];
  await curl(...parallel, "--get", "--data-urlencode", `query=${ME}`, `${url}?number=[1-50]`);
  for (let number = 1; number <= 50; number++) isMe(readFileSync(join(folder, `many-${number}`), "utf8"));

  // Who leaves in the middle.
  await sandbox.inject({ place: "api", fault: "hang", times: "always" });
  await assert.rejects(curl("--max-time", "0.5", ...json, "--data-binary", `@${me}`, url), { code: 28 });
  await idle(proxy);
  await sandbox.clearFaults();

  await sandbox.revoke();
  isMe(await curl(...json, "--data-binary", `@${me}`, url));
});

test("the examples for users work as they stand", async (t) => {
  const { env } = await programs(t);
  // Where they find what they import.
  const installed = here("node_modules/.examples");
  mkdirSync(installed, { recursive: true });
  const module = (name) => {
    copyFileSync(join(examples, name), join(installed, name));
    return ["node", join(installed, name)];
  };
  for (const [program, ...args] of [
    module("graphql-request.mjs"),
    module("apollo.mjs"),
    [process.env.PYTHON, join(examples, "client.py")],
    ["java", join(examples, "Client.java")],
    [process.env.RUST_CLIENT],
    ["sh", join(examples, "client.sh")],
  ]) {
    const { stdout } = await run(program, args, { env });
    assert.equal(stdout.match(/(HD|CC)_\d{6}/g).length, 3, stdout);
  }
});
