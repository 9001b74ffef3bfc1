"use strict";
// Enlarges the pictures of a gallery, one after the other.
(() => {
  const element = (tag, options = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...children);
    return made;
  };
  const image = element("img"), caption = element("p"), save = element("a", { textContent: "PNG" });
  const buttons = Object.fromEntries(["Previous", "Next", "Close"].map((textContent) => [textContent, element("button", { type: "button", textContent })]));
  const dialog = element("dialog", { className: "large" }, image, caption, element("div", { className: "tools" }, ...Object.values(buttons), save));
  dialog.setAttribute("aria-label", "picture, enlarged");
  caption.setAttribute("aria-live", "polite");
  document.body.append(dialog);
  for (const gallery of document.querySelectorAll(".gallery")) {
    const tiles = [...gallery.querySelectorAll(".tile button")];
    tiles.forEach((tile, i) => tile.addEventListener("click", () => { show(tiles, i); dialog.showModal(); }));
  }
  let shown = [], at = 0;
  function show(tiles, i) {
    [shown, at] = [tiles, (i + tiles.length) % tiles.length];
    const own = tiles[at].querySelector("img");
    const heading = tiles[at].closest(".tiles").dataset.group;
    Object.assign(image, { src: own.src, alt: own.alt, className: own.className });
    caption.textContent = [heading, tiles[at].closest(".tile").querySelector("figcaption").textContent].filter(Boolean).join(": ");
    Object.assign(save, { href: own.src, download: `${tiles[at].closest(".gallery").dataset.name}-${at + 1}.png` });
  }
  buttons.Previous.addEventListener("click", () => show(shown, at - 1));
  buttons.Next.addEventListener("click", () => show(shown, at + 1));
  buttons.Close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(shown, at - 1);
    if (event.key === "ArrowRight") show(shown, at + 1);
  });
})();
