// What the page's policy (Trusted Types) lets through: HTML of the dashboard's own server, whose templates have escaped
// everything, and the address of its one service worker.
const policy = globalThis.trustedTypes?.createPolicy("muster", {
  createHTML: (html) => html,
  createScriptURL: () => "/sw.js",
});

export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  return template.content;
}

export const workerAddress = () => (policy ? policy.createScriptURL("") : "/sw.js");
