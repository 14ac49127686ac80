// The stream of changes. One tab of a browser holds it, and tells the others; when that tab closes, another one takes over.
// Where the browser has no locks (an address without TLS that is not this machine), each tab has a stream of its own.
const MOST_PARTS = 12;
const own = [...new Set([...document.querySelectorAll("[data-live]")].map((each) => each.dataset.live))];

export function follow({ onPart, onState, onEnd }) {
  if (!own.length) return;
  const tell = (message) => {
    if (message.kind === "part" && own.includes(message.key)) onPart(message.key, message.html);
    if (message.kind === "state") onState(message.state);
    if (message.kind === "end") onEnd();
  };
  if (!navigator.locks || !globalThis.BroadcastChannel) {
    open(own, tell);
    return;
  }
  const channel = new BroadcastChannel("muster");
  channel.addEventListener("message", ({ data }) => {
    if (data.kind === "who") channel.postMessage({ kind: "parts", parts: own });
    else tell(data);
  });
  channel.postMessage({ kind: "parts", parts: own });
  navigator.locks.request("muster-stream", () => lead(channel, tell));
}

// Hold the stream for all tabs until this one closes.
function lead(channel, tell) {
  let parts = new Set(own);
  let source = null;
  const share = (message) => {
    channel.postMessage(message);
    tell(message);
  };
  const reopen = () => {
    source?.close();
    source = open([...parts].slice(0, MOST_PARTS), share);
  };
  channel.addEventListener("message", ({ data }) => {
    if (data.kind === "parts" && data.parts.some((each) => !parts.has(each))) {
      // Forget the parts of tabs that have closed: those that are left say again what they show.
      parts = new Set([...own, ...data.parts]);
      channel.postMessage({ kind: "who" });
      clearTimeout(lead.later);
      lead.later = setTimeout(reopen, 150);
    } else if (data.kind === "parts") {
      channel.postMessage({ kind: "state", state: source?.readyState === 1 ? "live" : "lost" });
    }
  });
  channel.postMessage({ kind: "who" });
  lead.later = setTimeout(reopen, 50);
  return new Promise(() => {}); // the lock is held as long as the tab lives
}

function open(parts, tell) {
  const query = parts.map((each) => `part=${encodeURIComponent(each)}`).join("&");
  const source = new EventSource(`/events?${query}`);
  source.addEventListener("open", () => tell({ kind: "state", state: "live" }));
  source.addEventListener("part", ({ data }) => tell({ kind: "part", ...JSON.parse(data) }));
  source.addEventListener("end", () => {
    source.close();
    tell({ kind: "end" });
  });
  source.addEventListener("error", () => {
    tell({ kind: "state", state: "lost" });
    if (source.readyState === 2) setTimeout(() => open(parts, tell), 3000); // refused; EventSource itself gave up
  });
  return source;
}
