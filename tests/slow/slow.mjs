// Attacks by slowhttptest on the real program, and 200 good clients that must not notice them; see `run`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { Agent, get, request } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const SECONDS = Number(process.argv[2]);
const CLIENTS = 200;
const EACH_MS = 1_000;
// Who waits longer has been failed.
const PATIENCE_MS = 10_000;
const SLOW = 200;
const QUERY = JSON.stringify({ query: "{ me { id } }" });

/** How slowhttptest slows down, and what it asks for: whatever would be refused at once slows nothing down. */
const ATTACKS = {
  "slow heads": { path: "/graphql", args: ["-H", "-i", "2"] },
  "slow bodies": { path: "/graphql", args: ["-B", "-i", "2", "-s", "8192", "-f", "application/json"] },
  // A page with more in it than the buffers of a connection hold.
  "slow reads": { path: "/graphiql/graphiql.js", args: ["-X", "-w", "256", "-y", "512", "-n", "2", "-z", "16", "-k", "3"] },
};

const children = new Set();
const endAll = () => {
  for (const child of children) child.kill("SIGKILL");
};
process.on("exit", endAll);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));
// Whatever hangs, this ends.
setTimeout(() => {
  console.error("slow: not done in time");
  process.exit(1);
}, (3 * (SECONDS + 60) + 60) * 1000).unref();

function start(program, args, env) {
  const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.ended = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => {
      children.delete(child);
      resolve(code);
    });
  });
  child.ended.catch(() => {});
  return child;
}

/** The first thing that `read` makes of a line; the rest is read and dropped, so that nobody waits for us. */
function told(child, stream, read) {
  return new Promise((resolve, reject) => {
    const seen = [];
    createInterface({ input: child[stream] }).on("line", (line) => {
      if (seen.length < 20) seen.push(line);
      const found = read(line);
      if (found) resolve(found);
    });
    child.ended.then((code) => reject(new Error(`${child.spawnfile} ended with ${code}:\n${seen.join("\n")}`)), reject);
  });
}

const sandbox = start(process.env.FLUENT_SANDBOX_BIN, ["--address", "127.0.0.1:0", "--control-address", "127.0.0.1:0"]);
sandbox.stderr.resume();
const fluent = await told(sandbox, "stdout", (line) => line.match(/^listening on (.*)$/)?.[1]);

const set = ["listen.address=127.0.0.1:0", "admin.address=127.0.0.1:0", "log.format=json"];
if (process.env.SLOW_SET) set.push(process.env.SLOW_SET);
const proxy = start(process.env.FLUENT_AUTH_PROXY_BIN, set.flatMap((setting) => ["--set", setting]), {
  FLUENT_URL: fluent,
  FLUENT_USERNAME: "demo",
  FLUENT_PASSWORD: "demo-password",
  FLUENT_CLIENT_ID: "demo-client",
  FLUENT_CLIENT_SECRET: "demo-client-secret",
});
proxy.stdout.resume();
const { url, admin } = await told(proxy, "stderr", (line) => {
  const event = JSON.parse(line);
  const address = (list) => `http://${list.slice(1, -1).split(", ")[0]}`;
  return event.message === "serving" && { url: address(event.listen), admin: address(event.admin) };
});

/** One request of an agent: its status and whole body. */
function ask(agent) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(QUERY) };
    const asked = request(`${url}/graphql`, { agent, method: "POST", headers, timeout: PATIENCE_MS }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (chunk) => (body += chunk));
      answer.on("error", reject).on("end", () => resolve({ status: answer.statusCode, body }));
    });
    // A time-out of the socket alone would be renewed by each byte.
    const late = setTimeout(() => asked.destroy(new Error(`no answer in ${PATIENCE_MS} ms`)), PATIENCE_MS);
    asked.on("error", reject).on("close", () => clearTimeout(late)).end(QUERY);
  });
}

let atWork = true;
let good = 0;
let longest = 0;
const failures = [];
const waiting = new Set();

/** A good client asks again and again, each time over a connection that it keeps, or now and then a new one. */
async function client(number) {
  let agent = new Agent({ keepAlive: true, maxSockets: 1 });
  await pause((number / CLIENTS) * EACH_MS);
  for (let asked = 1; atWork; asked += 1) {
    const began = performance.now();
    const asking = ask(agent);
    waiting.add(asking);
    try {
      const { status, body } = await asking;
      assert.equal(status, 200, body);
      assert.ok(JSON.parse(body).data?.me?.id, body);
      good += 1;
      longest = Math.max(longest, Math.round(performance.now() - began));
    } catch (error) {
      failures.push(error.message);
    } finally {
      waiting.delete(asking);
    }
    // A newcomer must get in too.
    if (asked % 4 === 0) {
      agent.destroy();
      agent = new Agent({ keepAlive: true, maxSockets: 1 });
    }
    await pause(EACH_MS);
  }
  agent.destroy();
}

function connections() {
  return new Promise((resolve, reject) => {
    get(`${admin}/metrics`, { timeout: PATIENCE_MS }, (answer) => {
      let page = "";
      answer.setEncoding("utf8").on("data", (chunk) => (page += chunk));
      answer.on("end", () => resolve(Number(/^fluent_auth_proxy_connections (\d+)/m.exec(page)?.[1])));
    }).on("error", reject);
  });
}

const clients = Array.from({ length: CLIENTS }, (_, number) => client(number));

for (const [name, { path, args }] of Object.entries(ATTACKS)) {
  const before = good;
  longest = 0;
  const all = ["-c", String(SLOW), "-r", "200", "-l", String(SECONDS), "-p", "30", "-v", "1", "-u", `${url}${path}`, ...args];
  const attack = start("slowhttptest", all);
  let report = "";
  for (const stream of [attack.stdout, attack.stderr]) stream.on("data", (chunk) => (report = (report + chunk).slice(-2_000)));
  let over = false;
  const ended = attack.ended.finally(() => (over = true));
  const late = setTimeout(() => attack.kill("SIGKILL"), (SECONDS + 45) * 1000);
  let most = 0;
  while (!over) {
    most = Math.max(most, await connections());
    await pause(200);
  }
  clearTimeout(late);
  assert.equal(await ended, 0, `${name}: slowhttptest failed: ${report}`);
  // What was asked during the attack counts, however late it is answered.
  await Promise.allSettled(waiting);
  console.log(`${name}: ${good - before} good answers, ${failures.length} failures, ${longest} ms at most, ${most} connections at most`);
  if (failures.length > 0) break;
  assert.ok(good > before, `${name}: the good clients were not at work: ${report}`);
  assert.ok(most >= CLIENTS + SLOW / 4, `${name}: only ${most} connections stood open, so nothing was slow: ${report}`);
}

atWork = false;
await Promise.all(clients);
assert.deepEqual([...new Set(failures)], [], `${failures.length} requests of good clients failed`);
process.exit(0);
