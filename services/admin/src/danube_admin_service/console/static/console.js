// Replaces the live part of a page with what the server sends, each time it has changed.
"use strict";
const live = document.getElementById("live");
const state = document.getElementById("state");
if (live && live.dataset.stream) {
  const source = new EventSource(live.dataset.stream);
  const say = (word, text) => { state.dataset.state = word; state.textContent = text; };
  source.onopen = () => say("live", "Live");
  source.onerror = () => say("lost", source.readyState === EventSource.CLOSED
    ? "Not live any more: the admin service refuses it. Load the page again."
    : "Not live: the admin service does not answer. Trying again.");
  source.onmessage = (event) => {
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    if (focused && focused.matches("input, select, textarea, button")) return;
    const open = [...live.querySelectorAll("details[open][id]")].map((one) => one.id);
    const scrolled = [...live.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const href = focused && focused.getAttribute("href");
    const label = focused && focused.getAttribute("aria-label");
    live.innerHTML = event.data;
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    live.querySelectorAll(".scroll").forEach((one, index) => { one.scrollLeft = scrolled[index] || 0; });
    if (href || label) {
      const again = [...live.querySelectorAll("a, [aria-label]")].find(
        (one) => href ? one.getAttribute("href") === href : one.getAttribute("aria-label") === label);
      if (again) again.focus({ preventScroll: true });
    }
  };
}
