// Shows that something waits. It keeps nothing, and answers no request.
self.addEventListener("push", (event) => {
  const shown = { body: "Something waits for an answer.", tag: "waiting", renotify: true };
  event.waitUntil(self.registration.showNotification("Muster", shown));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show());
});

async function show() {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = pages.find((page) => new URL(page.url).pathname === "/waiting");
  return there ? there.focus() : self.clients.openWindow("/waiting");
}
