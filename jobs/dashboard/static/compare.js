// What is picked to be compared, kept while one goes through the pages of a batch.
"use strict";

(() => {
  const list = document.getElementById("items");
  const main = document.querySelector("[data-base]");
  if (!list || !main) return;
  const most = 4;
  const key = `picked:${main.dataset.base}`;
  const bar = document.getElementById("picked");
  const picked = new Set(JSON.parse(sessionStorage.getItem(key) ?? "[]"));

  function show() {
    for (const box of list.querySelectorAll("[data-pick]")) {
      box.checked = picked.has(box.dataset.pick);
      box.disabled = !box.checked && picked.size >= most;
    }
    bar.hidden = picked.size === 0;
    const link = bar.querySelector("a");
    link.textContent = `Compare ${picked.size}`;
    link.href = `${main.dataset.base}/compare?${[...picked].map((id) => `id=${encodeURIComponent(id)}`).join("&")}`;
    link.classList.toggle("off", picked.size < 2);
    sessionStorage.setItem(key, JSON.stringify([...picked]));
  }

  list.addEventListener("change", ({ target }) => {
    if (!target.matches("[data-pick]")) return;
    if (target.checked) picked.add(target.dataset.pick);
    else picked.delete(target.dataset.pick);
    show();
  });
  bar.querySelector("button").addEventListener("click", () => {
    picked.clear();
    show();
  });
  document.addEventListener("list-filled", show);
  document.addEventListener("htmx:afterSwap", show);
  show();
})();

// A heading folds the variants of its row.
(() => {
  function fold(button) {
    const isFolded = button.getAttribute("aria-expanded") === "false";
    const cards = document.querySelectorAll(`article[data-matrix="${CSS.escape(button.dataset.fold)}"]`);
    for (const card of cards) card.hidden = isFolded;
  }

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-fold]");
    if (!button) return;
    button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") === "false"));
    fold(button);
  });
  document.addEventListener("list-filled", () => document.querySelectorAll('[data-fold][aria-expanded="false"]').forEach(fold));
})();
