// The audit of the GraphQL over HTTP specification (npm `graphql-http`), of a server directly and through the proxy: the
// same result, audit by audit.
//
// Of all that the audit sends the proxy refuses by its contract only a POST whose content type a page of any origin could
// send without asking (415), as the audit would have it. Where rules are on, it refuses what they cannot read (400): there
// two audits, which would have it answered with 200, differ.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { buildSchema } from "graphql";
import { auditServer } from "graphql-http";
import { createHandler } from "graphql-http/lib/use/http";
import { CLIENT_SECRET, PASSWORD, atEnd, startProxy, startSandbox } from "../programs.mjs";

/** The reference implementation. */
async function startReference(t) {
  const schema = buildSchema("type Query { hello: String }");
  const handler = createHandler({ schema, rootValue: { hello: "world" } });
  const server = createServer(handler);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(t, () => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

async function login(sandbox) {
  const body = new URLSearchParams({
    grant_type: "password",
    scope: "api",
    username: "demo",
    password: PASSWORD,
    client_id: "demo-client",
    client_secret: CLIENT_SECRET,
  });
  return (await (await fetch(`${sandbox.url}/oauth/token`, { method: "POST", body })).json()).access_token;
}

/** Each audit's result, and the codes of what the proxy answered itself. */
async function audited(url, token) {
  const own = [];
  const fetchFn = async (url, options) => {
    const headers = new Headers(options?.headers);
    if (token) headers.set("authorization", `Bearer ${token}`);
    const answer = await fetch(url, { ...options, headers });
    if (answer.headers.has("proxy-status")) own.push((await answer.clone().json()).errors[0].extensions.code);
    return answer;
  };
  const results = await auditServer({ url: `${url}/graphql`, fetchFn });
  return { own, results: results.map(({ id, name, status, reason }) => ({ id, name, status, reason })) };
}

const FORM = "CONTENT_TYPE_NOT_ALLOWED";

const UNREADABLE = "GRAPHQL_UNREADABLE";
/** Document parsing and validation failures of callers who accept `application/json` alone should be answered with 200. */
const READ_BY_RULES = ["572B", "FDE2"];
/** A POST without a content type should be answered with 4xx; the simulated Fluent takes it. */
const WITHOUT_TYPE = ["9ABE"];

for (const [what, start, set, refused, different] of [
  ["the reference implementation", startReference, [], [FORM], []],
  ["the reference implementation under rules", startReference, ["graphql.max_depth=50"], [FORM, "DOCUMENT_UNKNOWN", UNREADABLE], READ_BY_RULES],
  ["the simulated Fluent", async (_, sandbox) => sandbox.url, [], [FORM], WITHOUT_TYPE],
  ["the simulated Fluent over HTTP/2", async (_, sandbox) => sandbox.url, ["upstream.http_version=2"], [FORM], WITHOUT_TYPE],
]) {
  test(`each audit of ${what} ends through the proxy as it does without, but for what the contract says`, async (t) => {
    const sandbox = await startSandbox(t);
    const url = await start(t, sandbox);
    const tokens = `fluent.token.path=${sandbox.url}/oauth/token`;
    const proxy = await startProxy(t, { url }, { set: [tokens, ...set] });
    const direct = await audited(url, await login(sandbox));
    const through = await audited(proxy.url);
    const others = direct.results.filter((result, at) => !isDeepStrictEqual(result, through.results[at]));
    assert.deepEqual(others.map(({ id }) => id), different);
    assert.equal(through.results.length, direct.results.length);
    assert.deepEqual([...new Set(through.own)].sort(), refused);
    assert.deepEqual(direct.own, []);
    const count = (status) => through.results.filter((result) => result.status === status).length;
    t.diagnostic(`${through.results.length} audits: ${count("ok")} ok, ${count("notice")} notices, ${count("warn")} warnings`);
    assert.equal(count("error"), 0);
    assert.ok(through.results.length >= 61);
  });
}
