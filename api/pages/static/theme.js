// Chooses the theme before anything is drawn, and keeps what a person chose.
"use strict";

(() => {
  const KEY = "driftward-theme";
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;

  const chosen = () => {
    try {
      const kept = localStorage.getItem(KEY);
      return CHOICES.includes(kept) ? kept : "auto";
    } catch {
      return "auto"; // storage is forbidden here: the system's theme serves
    }
  };

  const apply = (choice) => {
    if (choice === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", choice);
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${choice}`;
    document.dispatchEvent(new CustomEvent("driftward:theme"));
  };

  apply(chosen());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    apply(chosen());
    button.addEventListener("click", () => {
      const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // It then lasts as long as the page.
      }
      apply(next);
    });
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(chosen()));
})();
