// A picture in full size, and what the keyboard does: arrows, 1 to 5, s, x, c, d, Enter and Escape.
"use strict";

(() => {
  const viewer = document.getElementById("viewer");
  const list = document.getElementById("items");
  if (!viewer || !list) return;
  const stage = viewer.querySelector(".stage");
  const aside = viewer.querySelector("aside");
  let shown = null; // the id of the card in the viewer
  let number = 0; // which of its outputs

  function cards() {
    return [...list.querySelectorAll("article")].filter((card) => card.checkVisibility());
  }

  function outputs(card) {
    return [...card.querySelectorAll(".shots img, .shots video")];
  }

  function open(card, index = 0) {
    shown = card.id;
    number = index;
    draw();
    if (!viewer.open) viewer.showModal();
  }

  function draw() {
    const card = document.getElementById(shown);
    if (!card) return;
    const output = outputs(card)[number];
    stage.replaceChildren(full(output) ?? card.querySelector(".shots").cloneNode(true));
    const parts = [...card.querySelectorAll(":scope > h3, :scope > .warning, :scope > .review, :scope > .prompt, :scope > .facts, :scope > details")];
    aside.replaceChildren(...parts.map((part) => part.cloneNode(true)), buttons(), help());
    htmx.process(aside);
    const input = aside.querySelector("details");
    if (input) input.open = true;
  }

  function full(output) {
    if (!output) return null;
    const element = document.createElement(output.localName);
    element.src = output.localName === "img" ? output.closest("a").href : output.src;
    if (output.localName === "img") element.alt = output.alt;
    else element.controls = element.autoplay = true;
    return element;
  }

  function help() {
    const text = document.createElement("p");
    text.className = "keys";
    text.textContent = "← → next · 1–5 rate · s star · x reject · m compare · c copy prompt · p copy path · d download · Esc close";
    return text;
  }

  function buttons() {
    const row = document.createElement("p");
    row.className = "buttons";
    for (const [name, act] of [["Copy prompt", copyPrompt], ["Copy path", copyPath], ["Download", download]]) {
      const button = document.createElement("button");
      button.textContent = name;
      button.addEventListener("click", () => act(document.getElementById(shown)));
      row.append(button);
    }
    return row;
  }

  const copyPrompt = (card) => navigator.clipboard?.writeText(card.querySelector(".prompt").textContent);
  const copyPath = (card) => navigator.clipboard?.writeText(`${list.dataset.folder}/${card.dataset.id}`);

  function step(by) {
    const card = document.getElementById(shown);
    const next = number + by;
    if (card && next >= 0 && next < outputs(card).length) return open(card, next);
    const all = cards();
    const other = all[all.indexOf(card) + by];
    if (other) open(other, by < 0 ? Math.max(outputs(other).length - 1, 0) : 0);
    else document.querySelector(`#pages a[rel=${by > 0 ? "next" : "prev"}]`)?.click();
  }

  function current() {
    return viewer.open ? document.getElementById(shown) : document.activeElement?.closest("article");
  }

  function press(card, name) {
    card.querySelector(`.review [data-key="${name}"]`)?.click();
  }

  const keys = {
    ArrowRight: () => viewer.open && step(1),
    ArrowLeft: () => viewer.open && step(-1),
    s: (card) => press(card, "s"),
    x: (card) => press(card, "x"),
    m: (card) => press(card, "m"),
    c: (card) => copyPrompt(card),
    p: (card) => copyPath(card),
    d: (card) => download(card),
    1: (card) => press(card, "1"),
    2: (card) => press(card, "2"),
    3: (card) => press(card, "3"),
    4: (card) => press(card, "4"),
    5: (card) => press(card, "5"),
  };

  function download(card) {
    const output = outputs(card)[viewer.open ? number : 0];
    if (!output) return;
    const link = document.createElement("a");
    link.href = `${output.closest("a")?.href ?? output.src}&download`;
    link.click();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const card = current();
    const act = keys[event.key];
    if (!act || !card) return;
    event.preventDefault();
    act(card);
  });

  list.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest(".shots a:has(img)");
    if (!link) return;
    event.preventDefault();
    const card = link.closest("article");
    open(card, outputs(card).indexOf(link.querySelector("img")));
  });

  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  viewer.addEventListener("close", () => {
    stage.replaceChildren();
    document.getElementById(shown)?.querySelector("a, button, summary")?.focus();
  });
  document.addEventListener("list-filled", () => viewer.open && !stage.querySelector("video") && draw());

  // A thumbnail that cannot be made gives way to the picture itself.
  list.addEventListener("error", ({ target }) => {
    const link = target.localName === "img" && target.closest("a");
    if (link && target.src !== link.href) target.src = link.href;
  }, true);
})();
