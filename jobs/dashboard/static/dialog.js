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
document.addEventListener("htmx:responseError", ({ detail }) => alert(detail.xhr.responseText.slice(0, 500)));
document.addEventListener("htmx:sendError", () => alert("The dashboard does not answer; nothing was done."));
