// Adds its chart below each static picture that has one. The picture is all there is where this does not run, or fails.
for (const data of document.querySelectorAll('script[type="application/vnd.vegalite.v5+json"]')) {
  const box = document.createElement("div");
  box.className = "chart";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "The same as a chart to select from");
  const chart = box.appendChild(document.createElement("div"));
  data.before(box);
  const spec = JSON.parse(data.textContent), ink = getComputedStyle(box).color;
  const axis = { domainColor: ink, gridColor: ink, labelColor: ink, tickColor: ink, titleColor: ink };
  spec.background = "transparent";
  Object.assign(spec.config, { axis, legend: { labelColor: ink, titleColor: ink }, title: { color: ink } });
  Object.assign(spec.config, { rule: { color: ink }, text: { color: ink } });
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  vegaEmbed(chart, spec, { actions: false, ast: true, renderer: "canvas", tooltip: { theme } })
    .catch((error) => { box.remove(); console.error(error); });
}
