// Server-sent events replace the parts of a page that changed. A page that nobody sees lets go of its connection:
// a browser has only six for one host.
"use strict";

(() => {
  const main = document.querySelector("[data-events]");
  if (!main) return;
  let source = null;

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource(main.dataset.events);
    source.addEventListener("part", ({ data }) => replacePart(JSON.parse(data)));
    source.addEventListener("list", ({ data }) => fillList(JSON.parse(data)));
    source.addEventListener("open", () => document.body.classList.remove("away"));
    source.addEventListener("error", () => document.body.classList.add("away"));
  }

  function disconnect() {
    source?.close();
    source = null;
  }

  function replacePart({ id, html }) {
    const old = document.getElementById(id);
    if (old && !isInUse(old)) replace(old, html);
  }

  // The elements that stay are not touched, so that a playing video plays on.
  function fillList({ id, keys, html }) {
    const list = document.getElementById(id);
    const known = list.dataset.filled === "true";
    let place = list.firstElementChild;
    for (const key of keys) {
      let element = document.getElementById(key);
      if (element && key in html && known && !isInUse(element)) {
        if (element === place) place = place.nextElementSibling;
        element = replace(element, html[key]);
        list.insertBefore(element, place);
        continue;
      }
      element ??= fromHtml(html[key] ?? "");
      if (!element) continue;
      if (element === place) place = place.nextElementSibling;
      else list.insertBefore(element, place);
    }
    const wanted = new Set(keys);
    for (const element of [...list.children]) if (!wanted.has(element.id)) element.remove();
    list.dataset.filled = "true";
    document.dispatchEvent(new CustomEvent("list-filled"));
  }

  function isInUse(element) {
    const focused = document.activeElement;
    const isTyped = element.contains(focused) && focused.matches("input, select, textarea");
    return isTyped || element.querySelector("dialog[open], details[open]") !== null || isPlaying(element);
  }

  function isPlaying(element) {
    return [...element.querySelectorAll("video, audio")].some((player) => !player.paused);
  }

  function replace(old, html) {
    const focused = old.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const element = fromHtml(html);
    old.replaceWith(element);
    if (focused) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    htmx.process(element);
    return element;
  }

  function fromHtml(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  connect();
})();
