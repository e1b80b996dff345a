// Dialogs arrive as HTML and are opened here, so that Escape, focus and the screen behind behave as they should.
"use strict";

document.addEventListener("htmx:afterSwap", () => {
  const dialog = document.querySelector("dialog[data-open]");
  if (dialog && !dialog.open) dialog.showModal();
});
document.addEventListener("click", ({ target }) => {
  const dialog = target.closest("[data-close]")?.closest("dialog") ?? (target.matches("dialog[data-open]") ? target : null);
  dialog?.close();
});

function say(text) {
  const dialog = document.getElementById("dialog");
  const close = document.createElement("button");
  close.dataset.close = "";
  close.textContent = "Close";
  const message = document.createElement("p");
  message.textContent = text;
  dialog.replaceChildren(message, close);
  dialog.dataset.open = "";
  if (!dialog.open) dialog.showModal();
}

document.addEventListener("htmx:responseError", ({ detail }) => {
  const answer = new DOMParser().parseFromString(detail.xhr.responseText, "text/html");
  say(answer.querySelector(".problem")?.textContent ?? answer.body.textContent.slice(0, 500));
});
document.addEventListener("htmx:sendError", () => say("The dashboard does not answer; nothing was done."));
