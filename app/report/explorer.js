"use strict";
document.documentElement.classList.add("js");
const form = document.querySelector("#find");
if (form) {
  const cards = [...document.querySelectorAll(".card")].map((card) => ({
    card,
    tags: card.dataset.tags.split(" "),
    text: card.textContent.toLowerCase(),
  }));
  const shown = document.querySelector("#shown");
  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = [form.elements.kind.value, form.elements.has.value].filter(Boolean);
    let count = 0;
    for (const { card, tags, text } of cards) {
      const match = wanted.every((tag) => tags.includes(tag)) && words.every((word) => text.includes(word));
      card.hidden = !match;
      count += match;
    }
    shown.textContent = count + " of " + cards.length + " problems";
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
