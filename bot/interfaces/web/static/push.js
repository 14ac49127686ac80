// Turn pushes on and off in this browser. The server keeps where its push service takes them.
import { workerAddress } from "./html.js";

const state = document.getElementById("push-state");
const on = document.querySelector("form[data-push]");
const off = document.querySelector("form[data-push-off]");
const why = !globalThis.isSecureContext
  ? "Pushes need the dashboard behind TLS."
  : !("serviceWorker" in navigator && "PushManager" in globalThis)
    ? "This browser has no pushes. On an iPhone or iPad, add the dashboard to the home screen first."
    : "";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function subscribe() {
  if ((await Notification.requestPermission()) !== "granted") throw new Error("The browser does not allow notifications. Its settings for this site do.");
  await navigator.serviceWorker.register(workerAddress(), { scope: "/" });
  const worker = await navigator.serviceWorker.ready;
  await (await worker.pushManager.getSubscription())?.unsubscribe(); // it may have another key
  const made = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(on.dataset.push) });
  on.elements.endpoint.value = made.endpoint;
  for (const name of ["p256dh", "auth"]) on.elements[name].value = base64(made.getKey(name));
}

if (on) {
  state.textContent = why;
  const button = on.querySelector("button");
  button.disabled = Boolean(why);
  on.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    state.textContent = "Asking the browser's push service …";
    try {
      await subscribe();
      on.submit();
    } catch (error) {
      state.textContent = `Pushes are not on. ${error.message || "The browser's push service did not answer."}`;
      button.disabled = false;
    }
  });
}

off?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const worker = await navigator.serviceWorker.getRegistration("/");
    await (await worker?.pushManager.getSubscription())?.unsubscribe();
    await worker?.unregister();
  } finally {
    off.submit();
  }
});
