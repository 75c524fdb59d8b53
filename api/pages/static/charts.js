// Draws every chart of a page from the JSON beside it, and anew when the theme changes.
import { arrivalsChart } from "./arrivals_chart.js";
import { driftChart } from "./drift_chart.js";
import { labelledChart } from "./labelled_chart.js";
import { projectionChart } from "./projection_chart.js";

const CHARTS = {
  arrivals: arrivalsChart,
  drift: driftChart,
  labelled: labelledChart,
  projection: projectionChart,
};
const COLOURS = [
  "text", "muted", "faint", "line", "card", "blue", "green", "amber", "red",
  "band", "alert-band", "past-band", "ribbon", "reference",
];

// Reads the colours from the style sheet, so that they stand in one place.
const theme = () => {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const colours = Object.fromEntries(COLOURS.map((name) => [name.replace("-", "_"), read(name)]));
  return { ...colours, font: getComputedStyle(document.body).fontFamily };
};

const drawn = new Map();

const draw = (element) => {
  const source = document.getElementById(element.dataset.source);
  const build = CHARTS[element.dataset.chart];
  if (!source || !build) return;
  const colours = theme();
  const chart = drawn.get(element) ?? echarts.init(element, null, { renderer: "canvas" });
  drawn.set(element, chart);
  const size = { height: element.clientHeight, measure: element.dataset.measure };
  const option = build(JSON.parse(source.textContent), colours, size);
  chart.setOption(
    {
      animation: false,
      textStyle: { fontFamily: colours.font, color: colours.text },
      ...option,
    },
    { notMerge: true },
  );
};

const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);

document.addEventListener("driftward:theme", drawAll);
new ResizeObserver(() => drawn.forEach((chart) => chart.resize())).observe(document.body);
// Labels are measured: they need the typeface.
document.fonts.ready.then(drawAll);
