// Shows the text of the point nearest to the mouse or finger, or the next one on an arrow key. Without JavaScript,
// browsers show each point's <title> instead.
for (const map of document.querySelectorAll("svg.points")) {
  const tip = document.getElementById("tip");
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
  addEventListener("scroll", () => choose(null), { passive: true });
  map.setAttribute("tabindex", "0");
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(points[(points.indexOf(chosen) + step + points.length) % points.length]);
  });
}
