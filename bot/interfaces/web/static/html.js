// HTML of the dashboard's own server as nodes. Its templates have escaped everything (Trusted Types).
const policy = globalThis.trustedTypes?.createPolicy("muster", { createHTML: (html) => html });

export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  return template.content;
}
