// Pages that mean harm, in a real browser: none of them gets one request through to Fluent; the proxy's own do.
//
// Each attack says so to its server when it is over, whatever became of it, so that Fluent's record is read then.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { PATIENCE, openPage, startBrowser, startProxy, startSandbox } from "./support.mjs";

const QUERY = JSON.stringify({ query: "{ me { username } }" });

/** A server of pages and scripts of another origin. */
async function startForeign(t, files) {
  const server = createServer((request, response) => {
    const file = files[new URL(request.url, "http://any.example").pathname];
    const type = request.url.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(file === undefined ? 404 : 200, { "content-type": type });
    response.end(file ?? "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}`;
}

/** A browser for which `evil.example` is this machine, and which asks nobody before a page reaches for it. */
async function startRebound(t) {
  const browser = await startBrowser(t, [
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
    // The browser's own wall about local networks would stand before ours, which is the one to be tried.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
  ]);
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  return page;
}

async function start(t, options) {
  const sandbox = await startSandbox(t);
  const proxy = await startProxy(t, sandbox, options);
  const heard = async () => (await sandbox.seen()).counts.api_requests;
  /** How many requests the proxy refused so: what the browser itself stops is no proof. */
  const refused = async (code) => {
    const page = await (await fetch(`${proxy.admin}/metrics`)).text();
    return Number(new RegExp(`rejections_total{code="${code}"} (\\d+)`).exec(page)?.[1] ?? 0);
  };
  return { proxy, heard, refused };
}

/** What a page of another origin may try, each in the page; it gives back what it could read. */
const ATTACKS = {
  "a fetch of JSON": ({ url, body }) =>
    fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body }).then((answer) => answer.text()),
  "a fetch of plain text": ({ url, body }) => fetch(url, { method: "POST", body }).then((answer) => answer.text()),
  "a fetch without CORS": ({ url, body }) =>
    fetch(url, { method: "POST", mode: "no-cors", body }).then((answer) => answer.text()),
  "a fetch of bytes without a type": ({ url, body }) =>
    fetch(url, { method: "POST", mode: "no-cors", body: new Blob([body]) }).then((answer) => answer.text()),
  "a GET without CORS": ({ url }) => fetch(`${url}?query={me{id}}`, { mode: "no-cors" }).then((answer) => answer.text()),
  "a beacon": ({ url, body }) => String(navigator.sendBeacon(url, body) && ""),
  "an old request": ({ url, body }) =>
    new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.onloadend = () => resolve(request.responseText);
      request.open("POST", url);
      request.send(body);
    }),
  "an image": ({ url }) =>
    new Promise((resolve) => {
      const image = new Image();
      image.onload = image.onerror = () => resolve("");
      image.src = `${url}?query={me{id}}`;
    }),
  "a script": ({ url }) =>
    new Promise((resolve) => {
      const script = document.createElement("script");
      script.onload = script.onerror = () => resolve("");
      script.src = `${url}?query={me{id}}`;
      document.head.append(script);
    }),
  "an EventSource": ({ url }) =>
    new Promise((resolve) => {
      const source = new EventSource(`${url}?query={me{id}}`);
      source.onopen = source.onerror = () => {
        source.close();
        resolve("");
      };
    }),
  "a web socket": ({ url }) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url.replace("http", "ws"));
      socket.onopen = socket.onclose = () => resolve("");
    }),
  "a form in a frame": ({ url, body }) =>
    new Promise((resolve) => {
      document.body.insertAdjacentHTML(
        "beforeend",
        `<iframe name="target"></iframe><form target="target" method="post" enctype="text/plain"><input></form>`,
      );
      const frame = document.querySelector("iframe");
      const form = document.querySelector("form");
      form.action = url;
      form.firstElementChild.name = body;
      frame.onload = () => resolve("");
      form.submit();
    }),
  "a frame": ({ url }) =>
    new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.onload = () => resolve("");
      frame.src = `${url}?query={me{id}}`;
      document.body.append(frame);
    }),
};

/** Runs every attack in the page, one after the other, and tells what they could read. */
async function attack(page, url) {
  for (const [name, way] of Object.entries(ATTACKS)) {
    const read = await page.evaluate(way, { url, body: QUERY }).catch(() => "");
    assert.ok(!/username|"id"/.test(read), `${name} read ${read}`);
  }
}

test("a page of another origin gets nothing through, nor reads anything", async (t) => {
  const { proxy, heard, refused } = await start(t);
  const page = await startRebound(t);
  await page.goto(await startForeign(t, { "/": "<body></body>" }));
  await attack(page, `${proxy.url}/graphql`);
  const arrived = await refused("CROSS_ORIGIN");
  assert.ok(arrived >= Object.keys(ATTACKS).length, `only ${arrived} attacks reached the proxy`);
  assert.equal(await heard(), 0);
});

test("a page under a name that leads to this machine gets nothing through", async (t) => {
  const { proxy, heard, refused } = await start(t);
  const page = await startRebound(t);
  // To the browser the proxy is this page's own origin: nothing but the name it was called by gives it away.
  const rebound = proxy.url.replace("localhost", "evil.example");
  const opened = await page.goto(`${rebound}/graphql`);
  assert.equal(opened.status(), 421);
  await page.setContent("<body></body>");
  await attack(page, `${rebound}/graphql`);
  const arrived = await refused("HOST_NOT_ALLOWED");
  assert.ok(arrived > Object.keys(ATTACKS).length, `only ${arrived} attacks reached the proxy`);
  assert.equal(await heard(), 0);
});

test("a form that fills the tab, and a link, get nothing through", async (t) => {
  const { proxy, heard } = await start(t);
  const page = await startRebound(t);
  const foreign = await startForeign(t, {
    "/form": `<form method="post" enctype="text/plain" action="${proxy.url}/graphql"><input name='${QUERY}'></form>`,
    "/link": `<a href="${proxy.url}/graphql?query={me{id}}">a gift</a>`,
  });
  await page.goto(`${foreign}/form`);
  const sent = page.waitForResponse(`${proxy.url}/graphql`);
  // The tab is free for the next page once it stands on the answer, which is later than the answer's head.
  const landed = page.waitForURL(`${proxy.url}/graphql`);
  await page.evaluate(() => document.forms[0].submit());
  assert.equal((await sent).status(), 403);
  await landed;
  await page.goto(`${foreign}/link`);
  const followed = page.waitForResponse((response) => response.url().startsWith(proxy.url));
  await page.getByText("a gift").click();
  assert.equal((await followed).status(), 403);
  assert.equal(await heard(), 0);
});

test("a service worker of another origin gets nothing through", async (t) => {
  const { proxy, heard, refused } = await start(t);
  const page = await startRebound(t);
  const worker = `
    onmessage = async ({ data, source }) => {
      const tries = [{ mode: "no-cors" }, { headers: { "content-type": "application/json" } }];
      let read = "";
      for (const how of tries) {
        read += await fetch(data.url, { method: "POST", body: data.body, ...how }).then((answer) => answer.text(), () => "");
      }
      source.postMessage(read);
    };`;
  await page.goto(await startForeign(t, { "/": "<body></body>", "/worker.js": worker }));
  const read = await page.evaluate(
    async ({ url, body }) => {
      await navigator.serviceWorker.register("/worker.js");
      const { active } = await navigator.serviceWorker.ready;
      return new Promise((resolve) => {
        navigator.serviceWorker.onmessage = ({ data }) => resolve(data);
        navigator.serviceWorker.startMessages();
        active.postMessage({ url, body });
      });
    },
    { url: `${proxy.url}/graphql`, body: QUERY },
  );
  assert.equal(read, "");
  assert.ok((await refused("CROSS_ORIGIN")) >= 2, "both tries reached the proxy");
  assert.equal(await heard(), 0);
});

test("a page of a listed origin reads answers and refusals", async (t) => {
  const foreign = await startForeign(t, { "/": "<body></body>" });
  const { proxy, heard } = await start(t, { set: [`listen.allowed_origins=${foreign}`] });
  const page = await startRebound(t);
  await page.goto(foreign);
  const read = await page.evaluate(ATTACKS["a fetch of JSON"], { url: `${proxy.url}/graphql`, body: QUERY });
  assert.match(read, /"username":"demo"/);
  const refused = await page.evaluate(ATTACKS["a fetch of plain text"], { url: `${proxy.url}/graphql`, body: QUERY });
  assert.match(refused, /CONTENT_TYPE_NOT_ALLOWED/);
  assert.equal(await heard(), 1);
});

test("a page of the proxy's own origin gets through", async (t) => {
  const { proxy, heard } = await start(t);
  const page = await openPage(t, await startBrowser(t), proxy);
  await page.goto(`${proxy.url}/graphiql`);
  const before = await heard();
  const read = await page.evaluate(ATTACKS["a fetch of JSON"], { url: `${proxy.url}/graphql`, body: QUERY });
  assert.match(read, /"username":"demo"/);
  assert.ok((await heard()) > before);
});
