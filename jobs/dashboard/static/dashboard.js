"use strict";

// Server-sent events replace the parts of a page that changed. A page that nobody sees lets go of its connection:
// a browser has only six for one host.
(() => {
  const main = document.querySelector("[data-events]");
  if (!main) return;
  let source = null;

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource(main.dataset.events);
    source.addEventListener("part", (message) => {
      const { id, html } = JSON.parse(message.data);
      const old = document.getElementById(id);
      if (!old || old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
      old.outerHTML = html;
      htmx.process(document.getElementById(id));
    });
    source.addEventListener("open", () => document.body.classList.remove("away"));
    source.addEventListener("error", () => document.body.classList.add("away"));
  }

  function disconnect() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  connect();
})();
