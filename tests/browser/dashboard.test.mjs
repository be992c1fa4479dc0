// The dashboard, as a person on call meets it: what happens is seen within two seconds of its happening.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP, PHONE, PATIENCE, assertAccessible, freePort, graphql, openPage, picture, startBrowser, startProxy, startSandbox } from "./support.mjs";

const REFUSED = { place: "token", fault: { status: { code: 400, body: '{"error":"invalid_grant"}' } }, times: "always" };
const BROKEN = { place: "api", fault: "close", times: "always" };
// The promise, and how often a page looks whether the machine has time for it.
const WITHIN = 2000;
const BEAT = 100;

const headline = (page, text) => page.locator("#headline", { hasText: text });
const card = (page, name) => page.locator(".card", { has: page.getByRole("heading", { name, exact: true }) });

/**
 * Fails where what has happened by now is not shown within the promise. The page itself tells the moment of showing it,
 * and how late its timers are: that is the machine's, and no part of the promise.
 */
async function shownWithin(page, selector, text, what) {
  const since = Date.now();
  const { shown, late } = await page.evaluate(
    ({ selector, text, PATIENCE, BEAT }) =>
      new Promise((resolve, reject) => {
        let [beat, late] = [Date.now(), 0];
        const count = () => {
          const now = Date.now();
          late += Math.max(0, now - beat - BEAT);
          beat = now;
        };
        setInterval(count, BEAT);
        const look = () => {
          if (![...document.querySelectorAll(selector)].some((element) => element.textContent.includes(text))) return;
          count();
          resolve({ shown: beat, late });
        };
        new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
        look();
        setTimeout(() => reject(new Error(`${text} is not shown`)), PATIENCE);
      }),
    { selector, text, PATIENCE, BEAT },
  );
  const took = shown - since;
  assert.ok(took - late < WITHIN, `${what} took ${took} ms, with timers ${late} ms late`);
}

async function until(what) {
  const deadline = Date.now() + PATIENCE;
  while (!(await what())) {
    assert.ok(Date.now() < deadline, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("a refusal, and the recovery after it, are seen as they happen", async (t) => {
  const sandbox = await startSandbox(t);
  await sandbox.inject(REFUSED);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(proxy.admin);
  await headline(page, "Fluent refuses the credentials of default").waitFor();
  await card(page, "default").getByText("0 good, 1 refused").waitFor();
  await card(page, "default").getByText(/^Last error: /).waitFor();
  await picture(page, "dashboard-refused");
  await assertAccessible(page);
  await sandbox.clearFaults();
  await page.getByRole("button", { name: "Try the login of default again" }).click();
  await until(async () => (await sandbox.seen()).counts.token_answers === 1 || (await (await fetch(`${proxy.admin}/readyz`)).json()).ready);
  await shownWithin(page, "#headline", "All is well", "the recovery");
  await card(page, "default").getByText("1 good, 1 refused").waitFor();
});

test("a login is seen as it happens", async (t) => {
  const sandbox = await startSandbox(t);
  const hang = await sandbox.inject({ place: "token", fault: "hang", times: "once" });
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(proxy.admin);
  await headline(page, "Waiting for the first login").waitFor();
  await sandbox.clearFaults(hang);
  await until(async () => (await (await fetch(`${proxy.admin}/readyz`)).json()).ready);
  await shownWithin(page, ".card", "1 good, 0 refused", "the login");
  await card(page, "default").getByRole("progressbar").waitFor();
});

test("failed requests are told with whose fault it was, and no query string", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(proxy.admin);
  await headline(page, "All is well").waitFor();
  const fault = await sandbox.inject(BROKEN);
  const id = "seen-on-the-dashboard";
  assert.equal((await graphql(proxy, "{ me { id } }", { "x-request-id": id })).status, 502);
  const row = page.locator("#failed tr", { hasText: id });
  await shownWithin(page, "#failed tr", id, "the failure");
  assert.deepEqual((await row.locator("td").allTextContents()).slice(1), [
    "Fluent",
    "502",
    "UPSTREAM_INTERRUPTED",
    "POST /graphql",
    "default",
    id,
  ]);
  await headline(page, "Fluent, or the way to it").waitFor();
  await sandbox.clearFaults(fault);
  await fetch(`${proxy.url}/nowhere?secret=query`, { headers: { "x-request-id": "callers-fault" } });
  const other = page.locator("#failed tr", { hasText: "callers-fault" });
  await other.waitFor();
  assert.deepEqual((await other.locator("td").allTextContents()).slice(1, 5), ["caller", "404", "PATH_NOT_FOUND", "GET /nowhere"]);
  assert.ok(!(await page.content()).includes("secret=query"));
});

test("the plots move under load", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(proxy.admin);
  const now = (title) => page.locator("figure", { hasText: title }).locator(".now");
  const pixels = () => page.locator("canvas").evaluateAll((all) => all.map((canvas) => canvas.toDataURL()));
  await now("Requests a second").filter({ hasText: "requests 0" }).waitFor();
  const before = await pixels();
  let loaded = true;
  const load = (async () => {
    while (loaded) await Promise.all([1, 2, 3, 4].map(() => graphql(proxy, "{ me { id } }")));
  })();
  await now("Requests a second").filter({ hasText: /requests [1-9]/ }).waitFor();
  await now("Fluent’s share").filter({ hasText: /half below [\d.]+ (µs|ms)/ }).waitFor();
  await now("The proxy’s own share").filter({ hasText: /99 % below [\d.]+ (µs|ms)/ }).waitFor();
  await page.waitForFunction((before) => {
    const all = [...document.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL());
    return [0, 2, 3].every((plot) => all[plot] !== before[plot]);
  }, before);
  await picture(page, "dashboard-load");
  loaded = false;
  await load;
});

test("many tabs share one stream, and another takes over when its holder is closed", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const first = await openPage(t, await startBrowser(t), proxy);
  await first.goto(proxy.admin);
  const tabs = [];
  // More than the connections that a browser opens to one host.
  for (let i = 0; i < 9; i++) {
    const tab = await first.context().newPage();
    await tab.goto(proxy.admin);
    tabs.push(tab);
  }
  for (const tab of [first, ...tabs]) {
    await headline(tab, "All is well").waitFor();
  }
  await first.close();
  await sandbox.inject(BROKEN);
  await graphql(proxy, "{ me { id } }", { "x-request-id": "after-the-close" });
  for (const tab of tabs) {
    await tab.locator("#failed tr", { hasText: "after-the-close" }).waitFor();
  }
});

test("a proxy that is gone is told, and that it is back too", async (t) => {
  const sandbox = await startSandbox(t);
  const port = await freePort();
  const set = [`admin.address=127.0.0.1:${port}`];
  const proxy = await startProxy(t, sandbox, { set });
  const page = await openPage(t, await startBrowser(t), proxy, { expected: ["ERR_", "Failed to load"] });
  await page.goto(proxy.admin);
  await headline(page, "All is well").waitFor();
  await proxy.stop();
  await headline(page, "The proxy does not answer").waitFor();
  await startProxy(t, sandbox, { set });
  await headline(page, "All is well").waitFor();
});

test("the settings are told with where they come from, and secrets only as set", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox, { set: ["upstream.queue=5"] });
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(proxy.admin);
  const row = async (key) => {
    const cells = page.locator("#settings tr", { has: page.getByText(key, { exact: true }) }).locator("td");
    await cells.first().waitFor();
    return (await cells.allTextContents()).slice(1);
  };
  assert.deepEqual(await row("upstream.queue"), ['"5"', "--set"]);
  assert.deepEqual(await row("fluent.password"), ["set", "FLUENT_PASSWORD"]);
  assert.equal(await page.getByText("listen.max_body", { exact: true }).count(), 0);
  await page.getByLabel("also those that are unset").check();
  assert.deepEqual(await row("listen.max_body"), ['"64MiB"', "default"]);
  assert.deepEqual(await row("upstream.ca_file"), ["unset", "–"]);
  assert.ok(!(await page.content()).includes("planted-program"));
});

for (const [width, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`everybody can read it: ${width}, ${colorScheme}`, async (t) => {
      const sandbox = await startSandbox(t);
      const proxy = await startProxy(t, sandbox);
      const page = await openPage(t, await startBrowser(t), proxy, { viewport, colorScheme });
      await page.goto(proxy.admin);
      await headline(page, "All is well").waitFor();
      await sandbox.inject({ ...BROKEN, times: { count: 3 } });
      for (let i = 0; i < 30; i++) {
        await graphql(proxy, "{ me { id } }");
      }
      await page.locator("#failed tr").first().waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `nothing stands beyond the right edge: ${wide}`);
      await assertAccessible(page);
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/dashboard-${width}-${colorScheme}.png`, fullPage: true });
    });
  }
}
