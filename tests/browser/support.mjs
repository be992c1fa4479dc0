// What every test of a page needs: a sandbox, a proxy before it, a browser that is never off its guard.
//
// 1. The programs are the real ones, on free ports of loopback, and end with their test.
// 2. The browser reaches nothing but the addresses of the proxy: its network is cut off from all others.
// 3. A page fails its test for an error on the console, an error that nobody caught, or a breach of its policy.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const { CHROMIUM, FLUENT_AUTH_PROXY_BIN, FLUENT_SANDBOX_BIN, SCREENSHOTS } = process.env;
assert.ok(CHROMIUM && FLUENT_AUTH_PROXY_BIN && FLUENT_SANDBOX_BIN && SCREENSHOTS, "tests/browser/run sets the environment");

const AXE = readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");
const PASSWORD = "planted-browser-password";
const CLIENT_SECRET = "planted-browser-secret";

/** How long anything may take that must come at all; this machine may be busy. */
export const PATIENCE = 60_000;

async function* linesOf(child, stream) {
  for await (const line of createInterface({ input: child[stream] })) {
    yield line;
  }
}

const ends = new WeakMap();

/** Ends what a test began in the reverse order: pages before the programs that serve them. */
function atEnd(t, end) {
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
    inject: async (fault) => (await (await ask("POST", "/faults", fault)).json()).id,
    clearFaults: () => ask("DELETE", "/faults"),
    revoke: () => ask("POST", "/revoke"),
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

/** Sends GraphQL as an application does. */
export const graphql = (proxy, query, headers = {}) =>
  fetch(`${proxy.url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ query }),
  });

/** A port that was free a moment ago, for a program that must come back to it. */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A browser that ends with the test; `more` are arguments beside those that all have. */
export async function startBrowser(t, more = []) {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...more,
    ],
  });
  atEnd(t, () => browser.close());
  return browser;
}

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

/**
 * A page that reaches `proxy` alone. `expected` are texts of console errors that the test causes on purpose, such as the
 * browser's own line about an answer of status 502.
 */
export async function openPage(t, browser, proxy, { viewport = DESKTOP, colorScheme = "light", expected = [] } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, hasTouch: viewport === PHONE });
  const own = [proxy.url, proxy.admin].map((url) => new URL(url).host);
  const faults = [];
  await context.route(
    (url) => !own.includes(url.host),
    (route) => {
      faults.push(`asked for ${route.request().url()}`);
      return route.abort();
    },
  );
  // Policy breaches of all kinds, those that print nothing included.
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => faults.push(`nobody caught ${error.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !expected.some((part) => text.includes(part))) {
      faults.push(`${message.type()}: ${text}`);
    }
  });
  atEnd(t, async () => {
    await context.close();
    assert.deepEqual(faults, [], "the page is free of faults");
  });
  return page;
}

/** Fails where axe-core finds a serious fault of accessibility. */
export async function assertAccessible(page) {
  // By the debugger's hand, which the policy of the page does not bind.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = serious.flatMap(({ id, nodes }) => nodes.map(({ html, any }) => `${id}: ${html} ${any[0]?.message ?? ""}`));
  assert.deepEqual(told, []);
}

/** Keeps a picture for people. */
export const picture = (page, name) => page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
