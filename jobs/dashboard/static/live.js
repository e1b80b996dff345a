// Server-sent events replace the parts of a page that changed. A browser has only six connections for one host, so a
// page that nobody sees lets go of its own, and of many that are seen at once only a few have one; the others ask. So
// does a page whose events the server refuses, as too many are open, or that gets none through a proxy.
"use strict";

(() => {
  const main = document.querySelector("[data-events]");
  if (!main) return;
  const mostConnected = 4;
  const askEvery = 3000;
  const connectEvery = 60000;
  const silentFor = 10000; // the first events come within a second, unless a proxy keeps them back
  let source = null;
  let release = null; // gives back the place among those that are connected
  let asking = null;
  let connecting = null; // until a page asks instead of waiting for events, or tries to connect again
  let isAsking = false;

  async function start() {
    if (source || asking || document.hidden) return;
    if (await acquire()) connect();
    else asking = setInterval(ask, askEvery);
    if (document.hidden) stop();
  }

  function askInstead() {
    stop();
    if (document.hidden) return;
    asking = setInterval(ask, askEvery);
    connecting = setTimeout(() => (stop(), start()), connectEvery);
    ask();
  }

  function stop() {
    source?.close();
    clearInterval(asking);
    clearTimeout(connecting);
    release?.();
    source = asking = connecting = release = null;
  }

  async function acquire() {
    if (!navigator.locks) return true; // only where the address is neither https nor this machine
    for (let place = 0; place < mostConnected; place += 1) if (await hold(`live-${place}`)) return true;
    return false;
  }

  function hold(name) {
    return new Promise((resolve) => {
      navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && new Promise((done) => (release = done));
      });
    });
  }

  function connect() {
    source = new EventSource(main.dataset.events);
    source.addEventListener("part", ({ data }) => receive(replacePart, data));
    source.addEventListener("list", ({ data }) => receive(fillList, data));
    source.addEventListener("open", () => {
      document.body.classList.remove("away");
      connecting = setTimeout(askInstead, silentFor);
    });
    source.addEventListener("error", () => {
      clearTimeout(connecting);
      document.body.classList.add("away");
      if (source?.readyState === EventSource.CLOSED) askInstead(); // no lost connection: that is tried again by itself
    });
  }

  function receive(change, data) {
    clearTimeout(connecting);
    change(JSON.parse(data));
  }

  async function ask() {
    if (isAsking) return;
    isAsking = true;
    try {
      const address = new URL(main.dataset.events, location.href);
      address.searchParams.set("once", "1");
      const answer = await fetch(address);
      if (answer.redirected) location.reload(); // the session is over: the page itself is sent to the sign-in
      for (const event of (await answer.text()).split("\n\n")) {
        const [, name, data] = event.match(/^event: (\w+)\ndata: (.*)$/) ?? [];
        if (name === "part") replacePart(JSON.parse(data));
        if (name === "list") fillList(JSON.parse(data));
      }
      document.body.classList.toggle("away", !answer.ok);
    } catch {
      document.body.classList.add("away");
    } finally {
      isAsking = false;
    }
  }

  const shown = new Map(); // what the server last sent of each element

  function replacePart({ id, html }) {
    const old = document.getElementById(id);
    if (old) update(id, old, html);
  }

  // The elements that stay are not touched, so that a playing video plays on.
  function fillList({ id, keys, html }) {
    const list = document.getElementById(id);
    let place = list.firstElementChild;
    for (const key of keys) {
      let element = document.getElementById(key);
      if (element && key in html) {
        if (element === place) place = element.nextElementSibling;
        element = update(key, element, html[key]);
      } else if (!element) {
        element = fromHtml(html[key] ?? shown.get(key) ?? "");
        if (!element) continue;
        if (key in html) shown.set(key, html[key]);
        htmx.process(element);
      } else if (element === place) {
        place = element.nextElementSibling;
        continue;
      }
      if (element.nextElementSibling !== place || element.parentElement !== list) list.insertBefore(element, place);
    }
    const wanted = new Set(keys);
    for (const element of [...list.children]) if (!wanted.has(element.id)) element.remove();
    document.dispatchEvent(new CustomEvent("list-filled"));
  }

  // Returns the element that is there now; one that somebody uses stays until the next time.
  function update(key, old, html) {
    if (shown.get(key) === html || isInUse(old)) return old;
    shown.set(key, html);
    const element = fromHtml(html);
    return element.isEqualNode(old) ? old : replace(old, element);
  }

  function isInUse(element) {
    const focused = document.activeElement;
    const isTyped = element.contains(focused) && focused.matches("input, select, textarea");
    return isTyped || element.querySelector("dialog[open], details[open]") !== null || isPlaying(element);
  }

  function isPlaying(element) {
    return [...element.querySelectorAll("video, audio")].some((player) => !player.paused);
  }

  function replace(old, element) {
    const focused = old.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    if (old.localName === "details") element.open = old.open;
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

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", start);
  start();
})();
