// Wait until the code is confirmed, then go on.
const form = document.getElementById("open");
const state = document.getElementById("state");

async function look() {
  try {
    const answer = await fetch("/login/state");
    const { state: now } = await answer.json();
    if (now === "confirmed") {
      form.requestSubmit();
      return;
    }
    if (now === "expired") {
      state.textContent = "The code has expired. Show a new one.";
      return;
    }
    state.textContent = "Waiting for your confirmation in chat …";
  } catch {
    state.textContent = "Connection lost. Trying again …";
  }
  setTimeout(look, 2000);
}

// Whoever is logged out leaves nothing half-written behind.
sessionStorage.clear();
if (form) look();
