// GraphiQL, as a person meets it: in a browser that reaches the proxy and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP, PHONE, assertAccessible, openPage, picture, startBrowser, startProxy, startSandbox } from "./support.mjs";

const run = (page) => page.getByRole("button", { name: /execute/i }).click();
const shown = (page, text) => page.locator(".result-window", { hasText: text }).waitFor();

/** Takes the place of all that stands in an editor; GraphiQL heeds a new query with its name in the tab. */
async function write(page, editor, text) {
  const region = page.getByRole("region", { name: editor });
  await region.locator(":not(.hidden) > .CodeMirror").evaluate((element, text) => element.CodeMirror.setValue(text), text);
  const name = /^(?:query|mutation) (\w+)/.exec(text)?.[1];
  if (name) {
    await page.locator(".graphiql-tab-active", { hasText: name }).waitFor();
  }
}

test("the first query works, with the network cut off but for the proxy", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const browser = await startBrowser(t);
  for (const path of ["/", "/graphiql"]) {
    const page = await openPage(t, browser, proxy);
    await page.goto(`${proxy.url}${path}`);
    await run(page);
    await shown(page, /"username": "demo"/);
    await shown(page, /"ref": "[A-Z]+_\d+"/);
  }
});

test("the schema is shown", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(`${proxy.url}/graphiql`);
  await page.getByRole("button", { name: /show documentation/i }).click();
  const docs = page.locator(".graphiql-doc-explorer");
  await docs.getByText("Mutation", { exact: true }).last().click();
  await docs.getByText("createOrder", { exact: true }).waitFor();
  await assertAccessible(page);
  await picture(page, "graphiql-schema");
});

test("a mutation runs with its variables, and an error answer is shown", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(`${proxy.url}/graphiql`);
  await page.getByRole("button", { name: "Headers" }).click();
  await page.getByRole("textbox", { name: "Headers" }).waitFor();
  await page.getByRole("button", { name: "Variables" }).click();
  await page.getByRole("textbox", { name: "Variables" }).waitFor();
  await write(page, "Query Editor", "mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { ref status } }");
  const input = { ref: "BROWSER_1", type: "HD", items: [{ ref: "1", productRef: "SKU_00001", quantity: 1, price: 9.5 }] };
  await write(page, "Variables", JSON.stringify({ input }));
  await run(page);
  await shown(page, /"ref": "BROWSER_1"/);
  const { mutations } = await sandbox.seen();
  assert.deepEqual(mutations, [{ field: "createOrder", ref: "BROWSER_1", count: 1 }]);
  // The same reference once more is an error of Fluent, of status 200.
  await run(page);
  await shown(page, /C0120E/);
});

test("an answer of the proxy itself is shown", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  // The browser tells of the 502 by itself.
  const page = await openPage(t, await startBrowser(t), proxy, { expected: ["status of 502"] });
  await page.goto(`${proxy.url}/graphiql`);
  await run(page);
  await shown(page, /"username": "demo"/);
  await sandbox.inject({ place: "api", fault: "close", times: "always" });
  await run(page);
  await shown(page, /UPSTREAM_INTERRUPTED/);
});

test("instances and users can be chosen; choice and text are remembered", async (t) => {
  const sandbox = await startSandbox(t);
  const other = await startSandbox(t, ["--username", "ops"]);
  const env = {
    FLUENT_PROXY__INSTANCES__EU__URL: other.url,
    FLUENT_PROXY__INSTANCES__EU__USERNAME: "nobody",
    FLUENT_PROXY__INSTANCES__EU__PASSWORD: "planted-program-nothing",
    FLUENT_PROXY__INSTANCES__EU__CLIENT_ID: "demo-client",
    FLUENT_PROXY__INSTANCES__EU__CLIENT_SECRET: "planted-program-secret",
    FLUENT_PROXY__INSTANCES__EU__USERS__OPS__USERNAME: "ops",
    FLUENT_PROXY__INSTANCES__EU__USERS__OPS__PASSWORD: "planted-program-password",
  };
  const proxy = await startProxy(t, sandbox, { env });
  // Its own credentials are refused, which the browser tells of by itself.
  const page = await openPage(t, await startBrowser(t), proxy, { expected: ["status of 502"] });
  await page.goto(`${proxy.url}/graphiql`);
  await page.getByLabel("Instance").selectOption("eu");
  assert.deepEqual(await page.getByLabel("User").locator("option").allTextContents(), ["default", "ops"]);
  await write(page, "Query Editor", "query Remembered { me { username } }");
  await run(page);
  await shown(page, /CREDENTIALS_REFUSED/);
  await page.getByLabel("User").selectOption("ops");
  await run(page);
  await shown(page, /"username": "ops"/);
  await page.reload();
  assert.equal(await page.getByLabel("Instance").inputValue(), "eu");
  assert.equal(await page.getByLabel("User").inputValue(), "ops");
  await page.locator(".graphiql-query-editor", { hasText: "Remembered" }).waitFor();
  await run(page);
  await shown(page, /"username": "ops"/);
});

test("menus and dialogs style themselves within the policy", async (t) => {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(`${proxy.url}/graphiql`);
  await write(page, "Query Editor", "query One { me { id } } query Two { me { username } }");
  await page.locator('.graphiql-execute-button[aria-haspopup="menu"]').waitFor();
  await run(page);
  await page.getByRole("menuitem", { name: "Two" }).click();
  await shown(page, /"username": "demo"/);
  await page.getByRole("button", { name: /settings/i }).click();
  await page.getByRole("dialog").waitFor();
  await picture(page, "graphiql-settings");
});

for (const [width, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`everybody can use it: ${width}, ${colorScheme}`, async (t) => {
      const sandbox = await startSandbox(t);
      const proxy = await startProxy(t, sandbox);
      const page = await openPage(t, await startBrowser(t), proxy, { viewport, colorScheme });
      await page.goto(`${proxy.url}/`);
      await run(page);
      await shown(page, /"username": "demo"/);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `nothing stands beyond the right edge: ${wide}`);
      await assertAccessible(page);
      await picture(page, `graphiql-${width}-${colorScheme}`);
    });
  }
}
