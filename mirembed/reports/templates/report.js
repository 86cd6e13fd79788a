// What the page does beyond showing itself: names the points of maps, selects curves, and says where a table goes on.
// Without JavaScript, browsers show each point's <title>.
const tip = document.getElementById("tip");
let clearTip = () => {};

// Shows the text of the point nearest to the mouse or finger, or the next one on an arrow key.
const begin = (map) => {
  const points = [...map.querySelectorAll(".point")];
  let chosen = null;
  for (const point of points) {
    const title = point.querySelector("title");
    point.setAttribute("aria-label", title.textContent);
    point.setAttribute("role", "img");
    title.remove();
  }
  const center = (point) => {
    const box = point.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const choose = (point) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = point;
    tip.hidden = !point;
    if (!point) return;
    clearTip = () => choose(null);
    point.classList.add("chosen");
    tip.textContent = point.getAttribute("aria-label");
    const [x, y] = center(point);
    tip.style.left = Math.max(4, Math.min(x + 10, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (y > tip.offsetHeight + 16 ? y - tip.offsetHeight - 10 : y + 14) + "px";
  };
  const nearest = (event) => {
    let best = null, least = event.pointerType === "touch" ? 32 : 14;
    for (const point of points) {
      const [x, y] = center(point);
      const distance = Math.hypot(x - event.clientX, y - event.clientY);
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  };
  map.addEventListener("pointermove", (event) => choose(nearest(event)));
  map.addEventListener("pointerdown", (event) => choose(nearest(event)));
  map.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") choose(null); });
  map.addEventListener("blur", () => choose(null));
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(points[(points.indexOf(chosen) + step + points.length) % points.length]);
  });
};
// A map is made ready when it is used: there may be many, with many points.
for (const map of document.querySelectorAll("svg.points")) {
  map.setAttribute("tabindex", "0");
  let ready = false;
  const first = () => { if (!ready) { ready = true; begin(map); } };
  for (const kind of ["pointerenter", "pointerdown", "focus"]) map.addEventListener(kind, first, { capture: true });
}
addEventListener("scroll", () => clearTip(), { passive: true });

// A click on a name in a legend shows the band of that curve, and another click none.
for (const key of document.querySelectorAll("svg .key")) {
  const figure = key.closest("svg"), number = key.dataset.curve;
  const parts = () => figure.querySelectorAll(`[data-curve="${number}"]`);
  key.setAttribute("tabindex", "0");
  key.setAttribute("role", "button");
  key.setAttribute("aria-pressed", "false");
  const toggle = () => {
    const on = !key.classList.contains("chosen");
    for (const other of figure.querySelectorAll("[data-curve].chosen")) other.classList.remove("chosen");
    for (const other of figure.querySelectorAll(".key")) other.setAttribute("aria-pressed", "false");
    figure.classList.toggle("selected", on);
    key.setAttribute("aria-pressed", String(on));
    if (on) for (const part of parts()) part.classList.add("chosen");
  };
  key.addEventListener("click", toggle);
  key.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
  });
}

// A table that is wider than the page says so, and its edge fades while there is more to the right.
const watch = new ResizeObserver((entries) => entries.forEach((entry) => edges(entry.target)));
const edges = (scroll) => {
  const table = scroll.parentElement, hidden = scroll.scrollWidth - scroll.clientWidth;
  table.classList.toggle("wide", hidden > 1);
  table.classList.toggle("more", hidden - scroll.scrollLeft > 1);
};
for (const scroll of document.querySelectorAll(".scroll")) {
  watch.observe(scroll);
  scroll.addEventListener("scroll", () => edges(scroll), { passive: true });
}
