// What every test of a page needs: a sandbox, a proxy before it, a browser that is never off its guard.
//
// 1. The programs are the real ones, on free ports of loopback, and end with their test.
// 2. The browser reaches nothing but the addresses of the proxy: its network is cut off from all others.
// 3. A page fails its test for an error on the console, an error that nobody caught, or a breach of its policy.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { chromium } from "playwright-core";
import { atEnd } from "../programs.mjs";

export { startProxy, startSandbox } from "../programs.mjs";

const { CHROMIUM, SCREENSHOTS } = process.env;
assert.ok(CHROMIUM && SCREENSHOTS, "tests/browser/run sets the environment");

const AXE = readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");
/** How long anything may take that must come at all; this machine may be busy. */
export const PATIENCE = 60_000;

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
