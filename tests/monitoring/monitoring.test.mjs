// What a real Prometheus makes of the real program: the scrape, the dashboard's expressions, and each alert.
//
// The rules are those of deploy/, with their times shortened to seconds. Five programs are scraped: one that is well,
// one whose credentials are refused, one whose logins and requests fail later on, one whose shared cache is away, and one
// that is not there.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const DEPLOY = fileURLToPath(new URL("../../deploy", import.meta.url));
const RULES = readFileSync(join(DEPLOY, "prometheus", "rules.yml"), "utf8");
const DASHBOARD = JSON.parse(readFileSync(join(DEPLOY, "grafana", "fluent-auth-proxy.json"), "utf8"));
const PATIENCE = 120_000;

// The account that a sandbox knows by default.
const ACCOUNT = {
  FLUENT_USERNAME: "demo",
  FLUENT_PASSWORD: "demo-password",
  FLUENT_CLIENT_ID: "demo-client",
  FLUENT_CLIENT_SECRET: "demo-client-secret",
};

const children = [];
const folder = mkdtempSync(join(tmpdir(), "monitoring-"));
let prometheus;
let well, refused, failing, alone;

after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a program and waits for the first line from which `read` makes something; all its lines are kept. */
async function start(program, args, environment, read) {
  const child = spawn(program, args, { env: { ...environment, PATH: process.env.PATH }, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  const lines = [];
  const found = await new Promise((resolve, reject) => {
    const look = (line) => {
      lines.push(line);
      const made = read(line);
      if (made) resolve(made);
    };
    createInterface({ input: child.stdout }).on("line", look);
    createInterface({ input: child.stderr }).on("line", look);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}:\n${lines.join("\n")}`)));
    setTimeout(() => reject(new Error(`${program} did not start:\n${lines.join("\n")}`)), PATIENCE).unref();
  });
  return { lines, ...found };
}

async function sandbox(...args) {
  const addresses = ["--address", "127.0.0.1:0", "--control-address", "127.0.0.1:0"];
  let url;
  return start(process.env.FLUENT_SANDBOX_BIN, [...addresses, ...args], {}, (line) => {
    url = line.match(/^listening on (.*)$/)?.[1] ?? url;
    const control = line.match(/^control on (.*)$/)?.[1];
    return url && control && { url, control };
  });
}

async function proxy(fluent, environment = {}) {
  const set = ["listen.address=127.0.0.1:0", "admin.address=127.0.0.1:0", "log.format=json"];
  const args = set.flatMap((set) => ["--set", set]);
  return start(process.env.FLUENT_AUTH_PROXY_BIN, args, { FLUENT_URL: fluent.url, ...ACCOUNT, ...environment }, (line) => {
    const event = JSON.parse(line);
    const address = (list) => list.slice(1, -1).split(", ")[0];
    return event.message === "serving" && { url: `http://${address(event.listen)}`, admin: address(event.admin) };
  });
}

async function ask(proxy, headers = { "content-type": "application/json" }) {
  const body = JSON.stringify({ query: "{ me { id } }" });
  const answer = await fetch(`${proxy.url}/graphql`, { method: "POST", headers, body });
  await answer.text();
  return answer.status;
}

async function json(url, options) {
  const answer = await fetch(url, options);
  return answer.json();
}

const api = (path) => json(`${prometheus.url}/api/v1/${path}`);
const query = (expression) => api(`query?query=${encodeURIComponent(expression)}`);

/** Asks again until `what` gives something. */
async function eventually(what, told) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await what();
    if (found) return found;
    if (Date.now() > end) assert.fail(`waited in vain: ${told()}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

before(async () => {
  const [fluent, unsteady, brief] = await Promise.all([
    sandbox(),
    sandbox("--token-lifetime", "30"),
    // The store is asked as often as a token is wanted.
    sandbox("--token-lifetime", "10"),
  ]);
  [well, refused, failing, alone] = await Promise.all([
    proxy(fluent, { FLUENT_PROXY__GRAPHQL__INSPECT: "true" }),
    proxy(fluent, { FLUENT_PASSWORD: "wrong" }),
    proxy(unsteady),
    proxy(brief, { FLUENT_PROXY__CACHE__STORE: "redis", FLUENT_PROXY__CACHE__REDIS_URL: "redis+unix:///nowhere.sock" }),
  ]);
  const rules = RULES.replaceAll(/^ +for: .*\n/gm, "").replaceAll(/\[\d+m\]/g, "[15s]");
  writeFileSync(join(folder, "rules.yml"), rules);
  const job = (name, target) => ({ job_name: name, static_configs: [{ targets: [target] }] });
  const config = {
    global: { scrape_interval: "2s", scrape_timeout: "2s", evaluation_interval: "1s" },
    rule_files: [join(folder, "rules.yml")],
    scrape_configs: [
      job("fluent-auth-proxy", well.admin),
      job("fluent-auth-proxy-refused", refused.admin),
      job("fluent-auth-proxy-failing", failing.admin),
      job("fluent-auth-proxy-alone", alone.admin),
      job("fluent-auth-proxy-gone", "127.0.0.1:9"),
    ],
  };
  // JSON is YAML.
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
  const args = [
    `--config.file=${join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    "--web.listen-address=127.0.0.1:0",
  ];
  prometheus = await start("prometheus", args, {}, (line) => {
    const address = line.match(/msg="Listening on" address=(127\.0\.0\.1:\d+)/)?.[1];
    return address && { url: `http://${address}` };
  });

  assert.equal(await ask(failing), 200);
  const inject = (fault) =>
    fetch(`${unsteady.control}/faults`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(fault),
    }).then((answer) => assert.ok(answer.ok, `no fault ${JSON.stringify(fault)}`));
  await inject({ place: "token", fault: { status: { code: 503 } }, times: "always" });
  await inject({ place: "api", fault: { delay: 6000 }, times: "always" });
});

test("a real scrape has no warning", async () => {
  const scraped = await eventually(
    async () => {
      const targets = (await api("targets")).data.activeTargets.filter((target) => !target.scrapePool.endsWith("gone"));
      const done = targets.length === 4 && targets.every((target) => target.health !== "unknown");
      return done && targets;
    },
    () => "for the first scrapes",
  );
  for (const target of scraped) {
    assert.deepEqual([target.scrapePool, target.health, target.lastError], [target.scrapePool, "up", ""]);
  }
  const loud = prometheus.lines.filter((line) => /level=(warn|error)/.test(line));
  assert.deepEqual(loud, []);
});

test("promtool finds nothing to say about the metrics", async () => {
  const page = await (await fetch(`http://${well.admin}/metrics`)).text();
  // promtool reads Prometheus' older form, where types stand under the names that samples have, and knows no UNIT.
  const types = { counter: ["_total", "counter"], info: ["_info", "gauge"] };
  const suffixed = new Map();
  for (const [, name, type] of page.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (types[type]) suffixed.set(name, types[type]);
  }
  const older = page
    .replaceAll(/^# (UNIT .*|EOF)\n/gm, "")
    .replaceAll(/^# (TYPE|HELP) (\S+) (.*)$/gm, (line, what, name, rest) => {
      const [suffix, type] = suffixed.get(name) ?? ["", rest];
      return `# ${what} ${name}${suffix} ${what === "TYPE" ? type : rest}`;
    });
  const said = execFileSync("promtool", ["check", "metrics"], { input: older, encoding: "utf8" });
  assert.equal(said, "");
});

test("the dashboard asks for what there is, and gets it", async () => {
  assert.equal(await ask(well, { "content-type": "text/plain" }), 415);
  const variables = DASHBOARD.templating.list.filter((variable) => variable.type === "query");
  const values = variables.map((variable) => variable.query.query.match(/^label_values\((.*), (\w+)\)$/));
  assert.ok(values.every(Boolean), "variables are label_values");
  const panels = DASHBOARD.panels.filter((panel) => panel.type !== "row");
  const expressions = [
    ...panels.flatMap((panel) => panel.targets.map((target) => target.expr)),
    ...values.map(([, selector, label]) => `count by (${label}) (${selector}) > 0`),
  ];
  assert.ok(expressions.length > 20);
  for (const expression of expressions) {
    // As Grafana would with everything chosen, and for one proxy that is well.
    const filled = expression
      .replaceAll("$__rate_interval", "1m")
      .replaceAll("$job", "fluent-auth-proxy")
      .replaceAll(/\$(instance|account)/g, ".*");
    assert.ok(!filled.includes("$"), `an unknown variable in ${expression}`);
    let last;
    await eventually(
      async () => {
        await ask(well);
        last = await query(filled);
        assert.equal(last.status, "success", `${filled}: ${last.error}`);
        assert.equal(last.warnings, undefined);
        return last.data.result.length > 0;
      },
      () => `${filled} gives ${JSON.stringify(last)}`,
    );
  }
});

test("the rules and what they advise name only metrics that there are", async () => {
  const known = new Set((await api("label/__name__/values")).data);
  const names = Array.from(RULES.matchAll(/\b(fluent_auth_proxy|process)_\w+/g), ([name]) => name);
  assert.ok(names.length > 10);
  for (const name of names) {
    assert.ok(known.has(name) || known.has(`${name}_bucket`), name);
  }
});

test("each alert fires for who is in trouble, and none for who is well", async () => {
  const wanted = {
    "fluent-auth-proxy-gone": ["FluentProxyDown"],
    "fluent-auth-proxy-refused": ["FluentProxyCredentialsRefused", "FluentProxyErrorRatio", "FluentProxyNothingReady"],
    "fluent-auth-proxy-alone": ["FluentProxySharedCacheDown"],
    "fluent-auth-proxy-failing": ["FluentProxySlow", "FluentProxyTokenNotRenewed"],
  };
  const all = RULES.match(/(?<=- alert: )\w+/g);
  const tried = new Set(Object.values(wanted).flat());
  assert.deepEqual(all.filter((alert) => !tried.has(alert)), []);
  const slow = [];
  let seen;
  await eventually(
    async () => {
      await ask(well);
      await ask(refused);
      assert.equal(await ask(alone), 200);
      // While it has a token; later its requests fail at once.
      if (slow.length < 10) slow.push(ask(failing).catch(() => {}));
      const fired = await query('count by (job, alertname) (count_over_time(ALERTS{alertstate="firing"}[10m]))');
      seen = fired.data.result.map(({ metric }) => `${metric.job} ${metric.alertname}`);
      const lacking = Object.entries(wanted).flatMap(([job, alerts]) => alerts.map((alert) => `${job} ${alert}`));
      return lacking.every((alert) => seen.includes(alert));
    },
    () => `only these fired: ${seen.join(", ")}`,
  );
  await Promise.all(slow);
  assert.deepEqual(seen.filter((alert) => alert.startsWith("fluent-auth-proxy ")), []);
});
