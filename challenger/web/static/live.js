// Live updates: when the journal grows the page is fetched anew and its content exchanged. Without this file everything is
// there all the same, by reloading.
"use strict";
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  if (!main || !live || !window.EventSource || document.querySelector("form.act input[type=password]")) return;
  const patience = 1500;
  let waiting = false;
  let stale = false;

  // whoever fills in a form or has opened something is not interrupted, and what is written is not taken away
  const written = () => [...main.querySelectorAll("form.act input, form.act textarea")].some((one) => one.value !== one.defaultValue);
  const busy = () => {
    const at = document.activeElement;
    return (at && at.closest("form") !== null && main.contains(at)) || written();
  };

  const update = async () => {
    waiting = false;
    if (document.hidden || busy()) {
      stale = true;
      if (written()) say("Not updated: you have begun to write. Something is new.");
      return;
    }
    stale = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (!fresh || fresh.innerHTML === main.innerHTML) return;
      const open = [...main.querySelectorAll("details")].map((one) => one.open);
      const scroll = [...main.querySelectorAll(".table")].map((one) => one.scrollLeft);
      const focus = document.activeElement && main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      main.replaceChildren(...fresh.childNodes);
      main.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
      main.querySelectorAll(".table").forEach((one, at) => { one.scrollLeft = scroll[at] || 0; });
      if (focus) {
        const again = [...main.querySelectorAll("a")].find((one) => one.getAttribute("href") === focus);
        if (again) again.focus({ preventScroll: true });
      }
      say(`Updated ${new Date().toISOString().slice(11, 19)} UTC`);
    } catch (error) {
      say("The service does not answer; the page may be old.");
    }
  };

  const say = (text) => { live.textContent = text; };
  const later = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(update, patience);
  };

  const events = new EventSource("/api/v1/events");
  events.onmessage = later;
  events.addEventListener("entry", later);
  events.onopen = () => say("Live");
  events.onerror = () => say("Not live: reload to see what is new.");
  main.addEventListener("focusout", () => { if (stale) later(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) later(); });
  window.addEventListener("pagehide", () => events.close());
})();
