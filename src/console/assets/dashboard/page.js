// The dashboard: is it well, and if not, whose fault.
//
// 1. Everything shown is text of the proxy, put in place as text; nothing is made of markup.
// 2. Of all tabs one holds the stream and tells the others, as browsers open few connections to one host. When it is
//    closed another takes over.
// 3. What a person must know is said in words: colour and plots repeat it.

import { makePlots } from "/dashboard/plots.js";

const KEPT_SAMPLES = 300;
// The failed requests of this time make the headline, and so many of a hundred make it bad.
const MINUTE = 60;
const ALARMING = 5;
const SILENT_AFTER = 5000;

const at = (id) => document.getElementById(id);
const draw = makePlots(at("plots"));
const state = { status: undefined, samples: [], failed: [], heard: 0 };

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function time(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

const name = (instance, user) => (user === "default" ? instance : `${instance}, user ${user}`);

// ---- Tokens ----

const STATES = {
  empty: "none yet",
  fresh: "good",
  ageing: "good, about to be renewed",
  expired: "dead",
};
const GRANTS = {
  password: "password",
  client_credentials: "client credentials",
  refresh_token: "refresh token",
  shared: "shared store",
};
const usable = (status) => ["fresh", "ageing"].includes(status.state);

// Whether it is well with a token, and what to do where it is not.
function judge(status) {
  if (status.login === "refused") {
    return {
      state: "bad",
      advice:
        "Fluent refuses these credentials, or has locked the account. Mend username, password, client and scope in the settings and restart; or mend the account at Fluent and try again here.",
    };
  }
  if (status.login === "unavailable") {
    return {
      state: usable(status) ? "warn" : "bad",
      advice: `The login meets trouble on the way or at Fluent. It is tried again by itself${usable(status) ? "; the old token serves meanwhile" : ""}. Look at the network, fluent.url and Fluent’s own status.`,
    };
  }
  return { state: usable(status) ? "good" : "idle", advice: "" };
}

function retryButton(instance, user) {
  const button = element("button", { type: "button" }, `Try the login of ${name(instance, user)} again`);
  button.addEventListener("click", async () => {
    const answer = await fetch("/retry", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ instance, user }),
    });
    const told = await answer.json();
    const wait = told.next_attempt_in_seconds;
    at("retried").textContent = wait
      ? `The next login may be sent in ${time(wait)}, so that the account is not locked.`
      : "One more login is tried, at once or with the next request.";
  });
  return button;
}

function card(instance, url, user, status) {
  const { state, advice } = judge(status);
  const left = status.expires_in_seconds;
  const life = state !== "idle" && left !== null ? lifeOf(status) : null;
  const facts = [
    ["Token", STATES[status.state]],
    ["Life left", left === null ? "–" : time(left)],
    ["Obtained", status.obtained_by ? `by ${GRANTS[status.obtained_by]}, ${new Date(status.obtained_at * 1000).toLocaleString()}` : "–"],
    ["Logins", `${status.logins.ok} good, ${status.logins.refused} refused, ${status.logins.unavailable} in trouble`],
  ];
  if (status.next_attempt_in_seconds !== null) {
    facts.push(["Next login", `in ${time(status.next_attempt_in_seconds)} at the earliest`]);
  }
  const made = element(
    "article",
    { className: "card" },
    element("h3", {}, name(instance, user)),
    element("p", { className: "url" }, url),
  );
  made.dataset.state = state;
  if (life) {
    const bar = element("progress", { max: life.whole, value: left });
    bar.setAttribute("aria-label", `Life left of the token of ${name(instance, user)}`);
    made.append(bar);
  }
  made.append(element("dl", {}, ...facts.flatMap(([fact, value]) => [element("dt", {}, fact), element("dd", {}, value)])));
  if (status.last_error) {
    made.append(element("p", { className: "error" }, `Last error: ${status.last_error}.`));
  }
  if (advice) {
    made.append(element("p", { className: "error" }, advice));
  }
  if (status.login === "refused") {
    made.append(retryButton(instance, user));
  }
  return made;
}

function lifeOf(status) {
  const lived = Math.max(0, Math.round(Date.now() / 1000) - status.obtained_at);
  return { whole: Math.max(1, lived + status.expires_in_seconds) };
}

function showTokens({ instances }) {
  const focused = document.activeElement?.textContent;
  const cards = Object.entries(instances).flatMap(([instance, { url, users }]) =>
    Object.entries(users).map(([user, status]) => card(instance, url, user, status)),
  );
  at("tokens").replaceChildren(...cards);
  // The button that had the focus was made anew.
  [...at("tokens").querySelectorAll("button")].find(({ textContent }) => textContent === focused)?.focus();
}

// ---- The verdict ----

const FAULTS = [
  ["identity", "The credentials or the login", "The cards below say which login and what to do."],
  ["upstream", "Fluent, or the way to it", "Look at Fluent’s own status and the network; the log tells each request’s story by its id."],
  ["proxy", "The proxy", "It has more requests than it takes, or a bug; the log tells each request’s story by its id."],
  ["client", "The callers", "What they send is turned down, or they leave; the codes below say why."],
];

function verdict({ draining, instances }) {
  const logins = Object.entries(instances).flatMap(([instance, { users }]) =>
    Object.entries(users).map(([user, status]) => [name(instance, user), judge(status), status]),
  );
  const bad = logins.find(([, { state }]) => state === "bad");
  if (bad) {
    const whose = bad[2].login === "refused" ? "Fluent refuses the credentials of" : "No token can be had for";
    return ["bad", `${whose} ${bad[0]}`, bad[1].advice];
  }
  const minute = state.samples.slice(-MINUTE);
  const sum = (key) => minute.reduce((sum, sample) => sum + sample[key], 0);
  const requests = sum("requests");
  const [worst] = FAULTS.map((fault) => [sum(fault[0]), fault]).sort(([one], [other]) => other - one);
  const part = Math.round((100 * worst[0]) / Math.max(1, requests));
  if (worst[0] && part >= ALARMING) {
    return ["bad", `${worst[1][1]}: ${part} % of the requests of the last minute failed for it`, worst[1][2]];
  }
  const warned = logins.find(([, { state }]) => state === "warn");
  if (warned) {
    return ["warn", `The token of ${warned[0]} cannot be renewed`, warned[1].advice];
  }
  if (draining) {
    return ["warn", "The proxy is shutting down", "It ends the requests that it has begun and takes no more."];
  }
  const waiting = instances.default?.users.default;
  if (waiting && !usable(waiting)) {
    return ["warn", "Waiting for the first login", "It is under way."];
  }
  const some = worst[0] ? `${worst[0]} of ${requests} requests of the last minute failed.` : "No request of the last minute failed.";
  return ["good", "All is well", some];
}

function showVerdict() {
  const silent = Date.now() - state.heard > SILENT_AFTER;
  const [kind, headline, advice] = silent
    ? ["bad", "The proxy does not answer", "What stands below is old. Does the proxy run? This page comes back by itself."]
    : verdict(state.status);
  const change = (id, text) => {
    // A screen reader says only what changes.
    if (at(id).textContent !== text) at(id).textContent = text;
  };
  at("verdict").dataset.state = kind;
  change("headline", headline);
  change("advice", advice);
  document.title = `${kind === "good" ? "" : "⚠ "}${headline} · fluent-auth-proxy`;
}

// ---- Failed requests and settings ----

const WHOSE = { client: "caller", proxy: "proxy", identity: "credentials or login", upstream: "Fluent" };

function showFailed() {
  const rows = state.failed.map((failed) => {
    const cells = [
      new Date(failed.at).toLocaleTimeString(),
      WHOSE[failed.fault],
      failed.status,
      failed.code ?? "Fluent’s answer",
      `${failed.method} ${failed.path}`,
      failed.instance ?? "–",
      failed.request_id,
    ];
    return element("tr", {}, ...cells.map((cell, index) => element("td", { className: index > 2 ? "code" : "" }, cell)));
  });
  at("failed").replaceChildren(...rows);
  at("failed-none").hidden = rows.length > 0;
  at("failed").closest(".scroll").hidden = rows.length === 0;
}

async function showSettings() {
  const settings = await (await fetch("/dashboard/settings.json")).json();
  const show = () => {
    const all = at("all-settings").checked;
    const shown = settings.filter(({ source }) => all || (source && source !== "default"));
    const rows = shown.map(({ key, value, source }) =>
      element(
        "tr",
        {},
        element("td", { className: "code" }, key),
        element("td", { className: "code" }, value),
        element("td", {}, source ?? "–"),
      ),
    );
    at("settings").replaceChildren(...rows);
  };
  at("all-settings").addEventListener("change", show);
  show();
}

// ---- The stream ----

function heed({ status, samples, failed }, anew) {
  state.heard = Date.now();
  state.status = status;
  state.samples = (anew ? samples : [...state.samples, ...samples]).slice(-KEPT_SAMPLES);
  at("process").textContent = `version ${status.version}, up ${time(status.uptime_seconds)}`;
  if (failed) {
    state.failed = failed;
    showFailed();
  }
  showTokens(status);
  showVerdict();
  draw(state.samples);
}

const tabs = new BroadcastChannel("fluent-auth-proxy:live");

// Rule 2: holds the stream for good, and tells who comes how things stand.
function lead() {
  const source = new EventSource("/events");
  const tell = (anew) => (event) => {
    const news = JSON.parse(event.data);
    heed(news, anew);
    tabs.postMessage({ news, anew });
  };
  source.addEventListener("start", tell(true));
  source.addEventListener("tick", tell(false));
  tabs.onmessage = ({ data }) => {
    if (data === "hello" && state.status) {
      const { status, samples, failed } = state;
      tabs.postMessage({ news: { status, samples, failed }, anew: true });
    }
  };
  return new Promise(() => {});
}

tabs.onmessage = ({ data }) => {
  if (data.news) heed(data.news, data.anew);
};
if (navigator.locks) {
  tabs.postMessage("hello");
  navigator.locks.request("fluent-auth-proxy:live", lead);
} else {
  lead();
}
setInterval(showVerdict, SILENT_AFTER / 2);
showSettings();
