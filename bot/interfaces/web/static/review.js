// Comments on lines of a diff, without leaving the page. Without this script each line's number leads to a page with a form.
import { fragment } from "./html.js";

const diff = document.querySelector("[data-review]");
const path = diff.dataset.review;
const said = document.getElementById("said");
const links = [...diff.querySelectorAll("a[data-line]")];
const most = Number(diff.dataset.most);
// What is being written survives a reload. The collected comments are kept by the server.
const key = `comment ${path}`;
let anchor = 0;
let first = 0;
let last = 0;

// All lines are one stop of the Tab key; the arrow keys move between them.
function stopAt(place) {
  for (const each of links) if (each.tabIndex !== -1) each.tabIndex = -1;
  links[place].tabIndex = 0;
}

const next = (place) => Number(links[place + 1]?.dataset.line) === Number(links[place].dataset.line) + 1;

// Choose the lines from `from` to `to`, as far as they follow one another in their file.
function pick(from, to) {
  [first, last] = [Math.min(from, to), Math.max(from, to)];
  let end = first;
  while (end < last && next(end) && end - first + 1 < most) end++;
  last = end;
  links.forEach((each, place) => each.closest("tr").classList.toggle("picked", last > first && place >= first && place <= last));
  if (last > first) say(`${last - first + 1} lines are picked.`);
}

function say(text) {
  said.replaceChildren(document.createTextNode(text));
}

function close() {
  diff.querySelector("tr.writing")?.remove();
  sessionStorage.removeItem(key);
}

async function write(words = "") {
  close();
  const [from, to] = [first, last];
  const answer = await fetch(`${links[from].href}?count=${to - from + 1}`, { headers: { "X-Muster-Part": "1" } });
  const page = fragment(await answer.text());
  if (!answer.ok) {
    said.replaceChildren(...(page.querySelector("main") ?? page).childNodes);
    return;
  }
  const row = document.createElement("tr");
  row.className = "writing";
  const cell = row.appendChild(document.createElement("td"));
  cell.colSpan = 2;
  cell.append(page);
  links[to].closest("tr").after(row);
  const text = row.querySelector("textarea");
  text.value = words;
  text.focus();
  text.addEventListener("input", () => {
    sessionStorage.setItem(key, JSON.stringify({ from, to, words: text.value }));
  });
}

diff.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-line]");
  if (link && !event.metaKey && !event.ctrlKey) {
    event.preventDefault();
    const place = links.indexOf(link);
    const inside = last > first && place >= first && place <= last;
    if (event.shiftKey) pick(anchor, place);
    else if (!inside) pick((anchor = place), place);
    stopAt(place);
    if (!event.shiftKey) write();
  } else if (event.target.closest("[data-cancel]")) {
    event.preventDefault();
    close();
    links[first].focus();
  }
});

diff.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.closest("tr.writing")) {
    diff.querySelector("[data-cancel]").click();
    return;
  }
  const here = links.indexOf(event.target);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: links.length - 1 }[event.key];
  if (here < 0 || !links[to]) return;
  event.preventDefault();
  if (!event.shiftKey) anchor = to;
  pick(anchor, to);
  stopAt(to);
  links[to].focus();
});

diff.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-comment]")) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { "X-Muster-Part": "1" },
    });
    const page = fragment(await answer.text());
    if (!answer.ok) {
      said.replaceChildren(...(page.querySelector("main") ?? page).childNodes);
      return;
    }
    document.getElementById("comments").replaceChildren(...page.childNodes);
    close();
    anchor = last;
    pick(anchor, anchor);
    say("The comment is collected. It is sent with the others, below the diff.");
    links[first].focus();
  } catch {
    say("Muster did not answer. The comment is not collected yet.");
  } finally {
    button.disabled = false;
  }
});

if (links.length) stopAt(0);
const kept = JSON.parse(sessionStorage.getItem(key) ?? "null");
if (kept && links[kept.to]) {
  pick((anchor = kept.from), kept.to);
  write(kept.words).then(() => sessionStorage.setItem(key, JSON.stringify(kept)));
}
