/**
 * What runs in the page: draws the figures, follows the reader's light or dark setting, and prints in light colours
 * at the width of a sheet. Plain JavaScript, since it is not compiled.
 */
export const PAGE_SCRIPT = `(() => {
  "use strict";
  const { figures, templates } = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displayModeBar: false };
  const plots = [...document.querySelectorAll(".plot")];
  const layoutOf = (plot, mode, width) => {
    const layout = { ...figures[Number(plot.dataset.figure)].layout, template: templates[mode] };
    if (width !== undefined) layout.width = width;
    else if (plot.clientWidth < 480) layout.height = layout.meta?.narrowHeight ?? layout.height;
    plot.style.minHeight = layout.height + "px";
    return layout;
  };
  const drawAll = (mode, width) => Promise.all(plots.map((plot) =>
    Plotly.react(plot, { ...figures[Number(plot.dataset.figure)], layout: layoutOf(plot, mode, width), config })
  ));
  const mode = () => dark.matches ? "dark" : "light";
  drawAll(mode()).then(() => { document.documentElement.dataset.figuresDrawn = String(plots.length); });
  dark.addEventListener("change", () => drawAll(mode()));
  let narrow = innerWidth < 544;
  addEventListener("resize", () => {
    if (innerWidth < 544 === narrow) return;
    narrow = !narrow;
    drawAll(mode());
  });
  addEventListener("beforeprint", () => drawAll("light", 640));
  addEventListener("afterprint", () => drawAll(mode()));
})();`;
