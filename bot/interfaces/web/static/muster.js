import { fragment } from "./html.js";
import { morph } from "./morph.js";
import { follow } from "./stream.js";
import { tellTimes } from "./times.js";

const state = document.getElementById("link-state");
const said = document.getElementById("said");

function atBottom() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
}

follow({
  onPart(key, html) {
    for (const each of document.querySelectorAll("[data-live]")) {
      if (each.dataset.live !== key) continue;
      if (html === null) {
        location.reload();
        return;
      }
      const wasAtBottom = atBottom() && each.querySelector(".talk");
      morph(each, fragment(html));
      tellTimes(each);
      if (wasAtBottom) scrollTo({ top: document.documentElement.scrollHeight });
    }
  },
  onState(now) {
    const text = now === "live" ? "" : "Connection lost. What you see may be old.";
    if (state.textContent !== text) state.textContent = text;
    document.documentElement.dataset.stream = now;
  },
  onEnd() {
    location.reload();
  },
});

// Buttons and short forms answer here instead of on a page of their own.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-part]")) return;
  event.preventDefault();
  const buttons = [...form.closest(".answers")?.querySelectorAll("button") ?? form.querySelectorAll("button")];
  for (const each of buttons) each.disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { "X-Muster-Part": "1" },
    });
    const html = await answer.text();
    const page = answer.headers.get("Content-Type")?.startsWith("text/html") ? fragment(html) : null;
    const shown = page?.querySelector("main") ?? page;
    said.replaceChildren(...(shown ? shown.childNodes : [document.createTextNode("That did not work.")]));
    if (answer.ok) form.reset();
  } catch {
    said.textContent = "Muster did not answer. Look whether it was done before you try again.";
  } finally {
    for (const each of buttons) each.disabled = false;
  }
});
said.addEventListener("click", () => said.replaceChildren());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") said.replaceChildren();
});

tellTimes();
setInterval(tellTimes, 20_000);
