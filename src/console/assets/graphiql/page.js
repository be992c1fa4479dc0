// The page of GraphiQL: chooses an instance and a user of the proxy, and sends to it what was typed.
//
// 1. Everything comes from the proxy that served the page, and goes to it.
// 2. What GraphiQL's editors and tabs lack for screen readers and keyboards is added as they come.
// 3. What was typed is remembered by GraphiQL itself, what was chosen here; both in this browser only.

import { GraphiQL, createElement, createRoot } from "/graphiql/graphiql.js";

const CHOICE = "fluent-auth-proxy:choice";
const DEFAULT = "default";
const FIRST_QUERY = `# Ctrl-Enter runs this query, Ctrl-Space says what may stand here. The proxy adds the token.

query Welcome {
  me {
    id
    username
    primaryEmail
  }
  orders(first: 5) {
    edges {
      node {
        id
        ref
        type
        status
        createdOn
      }
      cursor
    }
    pageInfo {
      hasNextPage
    }
  }
}
`;

const instanceBox = document.getElementById("instance");
const userBox = document.getElementById("user");
const main = document.getElementById("graphiql");
const root = createRoot(main);
const { instances } = await (await fetch("/graphiql/config.json")).json();

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(CHOICE)) ?? {};
  } catch {
    return {};
  }
}

function offer(box, names, wanted) {
  box.replaceChildren(...names.map((name) => new Option(name)));
  box.value = names.includes(wanted) ? wanted : DEFAULT;
}

function offerUsers(wanted) {
  offer(userBox, instances.find(({ name }) => name === instanceBox.value).users, wanted);
}

// Sends as GraphiQL wants it sent; an answer of any status is shown, as the errors of the proxy and of Fluent are JSON too.
function sender(instance, user) {
  const path = instance === DEFAULT ? "/graphql" : `/instances/${instance}/graphql`;
  const ours = { accept: "application/graphql-response+json, application/json", "content-type": "application/json" };
  if (user !== DEFAULT) {
    ours["x-fluent-user"] = user;
  }
  return async (request, options) => {
    let answer;
    try {
      answer = await fetch(path, {
        method: "POST",
        headers: { ...options?.headers, ...ours },
        body: JSON.stringify(request),
      });
    } catch {
      return { errors: [{ message: "The proxy does not answer. Does it run?" }] };
    }
    const text = await answer.text();
    try {
      return JSON.parse(text);
    } catch {
      return { errors: [{ message: `The answer, of status ${answer.status}, is no JSON.` }] };
    }
  };
}

function render() {
  const choice = { instance: instanceBox.value, user: userBox.value };
  localStorage.setItem(CHOICE, JSON.stringify(choice));
  root.render(
    createElement(GraphiQL, { fetcher: sender(choice.instance, choice.user), defaultQuery: FIRST_QUERY }),
  );
}

function describe() {
  // Two editors share a region, which bears the name of the one that is not hidden.
  for (const text of main.querySelectorAll("textarea:not([aria-label], .hidden *)")) {
    const region = text.closest("[aria-label]");
    text.setAttribute("aria-label", region?.getAttribute("aria-label") ?? "Editor");
  }
  for (const region of main.querySelectorAll('.CodeMirror-scroll[tabindex="-1"]')) {
    region.tabIndex = 0;
  }
  // A tab that holds two buttons is none: as a list of buttons they can all be reached.
  for (const tabs of main.querySelectorAll('.graphiql-tabs[role="tablist"]')) {
    tabs.removeAttribute("role");
  }
  for (const tab of main.querySelectorAll(".graphiql-tab[aria-selected]")) {
    tab.setAttribute("aria-current", tab.getAttribute("aria-selected"));
    tab.removeAttribute("aria-selected");
    tab.removeAttribute("role");
  }
}

const choice = remembered();
offer(instanceBox, instances.map(({ name }) => name), choice.instance);
offerUsers(choice.user);
instanceBox.addEventListener("change", () => {
  offerUsers(DEFAULT);
  render();
});
userBox.addEventListener("change", render);
new MutationObserver(describe).observe(main, { childList: true, subtree: true, attributeFilter: ["aria-label", "aria-selected"] });
render();
