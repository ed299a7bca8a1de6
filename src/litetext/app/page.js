// Example boxes: drag over the result with a mouse or a pen, and the box is written into the text field.
(() => {
  let start = null, shown = null;
  const place = (event, stage) => {
    const box = stage.getBoundingClientRect();
    const share = (value, low, size) => Math.min(1, Math.max(0, (value - low) / size));
    return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
  };
  const sides = (one, other) => [0, 1].map(axis => [Math.min(one[axis], other[axis]), Math.max(one[axis], other[axis])]);
  document.addEventListener("pointerdown", event => {
    const stage = event.target.closest?.(".lt-stage");
    if (!stage || event.button || event.pointerType === "touch") return;
    event.preventDefault();
    start = { stage, at: place(event, stage) };
    shown = stage.appendChild(Object.assign(document.createElement("div"), { className: "lt-drag" }));
  });
  document.addEventListener("pointermove", event => {
    if (!start) return;
    const [[left, right], [top, bottom]] = sides(start.at, place(event, start.stage));
    const percent = { left, top, width: right - left, height: bottom - top };
    for (const [name, value] of Object.entries(percent)) shown.style[name] = `${100 * value}%`;
  });
  document.addEventListener("pointerup", event => {
    if (!start) return;
    const { stage, at } = start, { width, height } = stage.dataset;
    const [[left, right], [top, bottom]] = sides(at, place(event, stage));
    start = null;
    shown.remove();
    const box = [left * width, top * height, right * width, bottom * height].map(Math.round);
    const field = document.querySelector("#boxes textarea");
    if (!field || box[2] - box[0] < 2 || box[3] - box[1] < 2) return;
    field.value = [...field.value.split("\n").filter(Boolean), box.join(", ")].join("\n");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
})();
