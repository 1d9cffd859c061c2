// Makes a slider of each group of images, and opens for print what is folded. Without this, images stand side by side.
"use strict";
document.documentElement.classList.add("script");

for (const group of document.querySelectorAll(".compare")) {
  const stills = [...group.querySelectorAll(".stills figure")].map((figure) => ({
    figure,
    image: figure.querySelector("img"),
    label: figure.querySelector("b").textContent,
  }));
  if (stills.length < 2) continue;
  const make = (name, className, parent) => {
    const element = document.createElement(name);
    element.className = className;
    parent.append(element);
    return element;
  };
  const slider = make("div", "slider", group);
  const stage = make("div", "stage", slider);
  const side = (name, index) => {
    const image = make("img", name, stage);
    image.alt = "";
    image.draggable = false;
    return { image, index, name };
  };
  const begin = (name, otherwise) => {
    const found = stills.findIndex((still) => still.figure.dataset.side === name);
    return found < 0 ? otherwise : found;
  };
  const left = side("left", begin("left", 0));
  const right = side("right", begin("right", stills.length - 1));
  const line = make("div", "line", stage);
  const range = make("input", "range", slider);
  range.type = "range";
  range.min = 0;
  range.max = 100;
  range.step = 0.5;
  const choices = make("div", "choices", slider);
  for (const of of [left, right]) {
    const label = make("label", "", choices);
    label.append(of.name + " ");
    of.select = make("select", "", label);
    stills.forEach((still, index) => of.select.add(new Option(still.label, index)));
    of.select.addEventListener("change", () => {
      of.index = Number(of.select.value);
      show();
    });
  }
  group.querySelector("h3").after(slider);

  const show = () => {
    for (const of of [left, right]) {
      of.image.src = stills[of.index].image.src;
      of.select.value = of.index;
    }
    const names = [left, right].map((of) => stills[of.index].label);
    range.setAttribute("aria-label", `${group.dataset.name}: ${names[0]} left of the line, ${names[1]} right of it`);
  };
  const place = (percent) => {
    range.value = percent;
    right.image.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    line.style.left = `${range.value}%`;
  };
  range.addEventListener("input", () => place(range.value));
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    place((100 * (event.clientX - box.left)) / box.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) drag(event);
  });
  stills.forEach((still, index) =>
    still.image.addEventListener("click", () => {
      right.index = index;
      show();
    }),
  );
  show();
  place(50);
}

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
