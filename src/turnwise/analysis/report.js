"use strict";
// One switch per credit method: colours, numbers and the scale follow the chosen one.
for (const gallery of document.querySelectorAll(".gallery")) {
  const show = (method) => {
    for (const line of gallery.querySelectorAll("[data-marks]")) {
      const mark = JSON.parse(line.dataset.marks)[method];
      line.classList.remove(...[...line.classList].filter((name) => /^c\d+$/.test(name)));
      if (mark) line.classList.add(mark[1]);
      line.querySelector(".mark").textContent = mark ? mark[0] : "–";
    }
    for (const scale of gallery.querySelectorAll("[data-scale]")) {
      scale.hidden = scale.dataset.scale !== method;
    }
    gallery.dataset.shown = method;
  };
  for (const input of gallery.querySelectorAll(".switches input")) {
    input.addEventListener("change", () => show(input.value));
    if (input.checked) show(input.value);
  }
}
