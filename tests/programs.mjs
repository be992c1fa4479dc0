// The real programs for tests in JavaScript, on free ports of loopback; each ends with its test.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const { FLUENT_AUTH_PROXY_BIN, FLUENT_SANDBOX_BIN } = process.env;
assert.ok(FLUENT_AUTH_PROXY_BIN && FLUENT_SANDBOX_BIN, "FLUENT_AUTH_PROXY_BIN and FLUENT_SANDBOX_BIN name the programs");

export const PASSWORD = "planted-program-password";
export const CLIENT_SECRET = "planted-program-secret";

async function* linesOf(child, stream) {
  for await (const line of createInterface({ input: child[stream] })) {
    yield line;
  }
}

const ends = new WeakMap();

/** Ends what a test began in the reverse order: those who ask before the programs that serve them. */
export function atEnd(t, end) {
  if (!ends.has(t)) {
    ends.set(t, []);
    t.after(async () => {
      for (const end of ends.get(t).reverse()) await end();
    });
  }
  ends.get(t).push(end);
}

function started(t, program, args, env) {
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  atEnd(t, child.stop);
  return child;
}

/** A simulated Fluent, and what its control interface does. */
export async function startSandbox(t, args = []) {
  const free = ["--address", "127.0.0.1:0", "--control-address", "127.0.0.1:0"];
  const env = { FLUENT_SANDBOX_PASSWORD: PASSWORD, FLUENT_SANDBOX_CLIENT_SECRET: CLIENT_SECRET };
  const child = started(t, FLUENT_SANDBOX_BIN, [...free, ...args], env);
  child.stderr.resume();
  const lines = linesOf(child, "stdout");
  const url = (await lines.next()).value.split(" ").at(-1);
  const control = (await lines.next()).value.split(" ").at(-1);
  const ask = async (method, path, body) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${control}${path}`, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
    return answer;
  };
  return {
    url,
    control,
    inject: async (fault) => (await (await ask("POST", "/faults", fault)).json()).id,
    clearFaults: () => ask("DELETE", "/faults"),
    revoke: () => ask("POST", "/revoke", {}),
    seen: async () => (await ask("GET", "/seen")).json(),
  };
}

/** A proxy before the sandbox; `set` are settings as `--set` takes them. */
export async function startProxy(t, sandbox, { set = [], env = {} } = {}) {
  // Of two `--set` of one key the later wins.
  const free = ["listen.address=localhost:0", "admin.address=localhost:0", "log.format=json"];
  const args = [...free, ...set].flatMap((setting) => ["--set", setting]);
  const child = started(t, FLUENT_AUTH_PROXY_BIN, args, {
    FLUENT_URL: sandbox.url,
    FLUENT_USERNAME: "demo",
    FLUENT_PASSWORD: PASSWORD,
    FLUENT_CLIENT_ID: "demo-client",
    FLUENT_CLIENT_SECRET: CLIENT_SECRET,
    ...env,
  });
  child.stdout.resume();
  const told = [];
  for await (const line of linesOf(child, "stderr")) {
    told.push(line);
    const event = JSON.parse(line.startsWith("{") ? line : "{}");
    if (event.message === "serving") {
      const url = (list) => `http://localhost:${list.match(/:(\d+)[,\]]/)[1]}`;
      child.stderr.resume();
      return { url: url(event.listen), admin: url(event.admin), stop: child.stop };
    }
  }
  throw new Error(`the proxy ended before it served:\n${told.join("\n")}`);
}
