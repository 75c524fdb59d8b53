// Drift over time: the champion's effect with its interval, the fixed encoder's unbroken
// trend, what a window could not have shown, episodes as bands and promotions as marks.
import { number, timeAxis, tooltip, valueAxis } from "./chart_parts.js";

// Of the drawing, in pixels; labels at the right end keep this distance from each other.
const GRID = { left: 40, right: 128, top: 34, bottom: 26 };
const LABEL_DISTANCE = 15;

export const driftChart = (data, colours, { height }) => {
  const { windows, promotions, episodes } = data;
  const start = windows[0].start;
  const end = windows[windows.length - 1].end;
  const highest = Math.max(
    ...windows.flatMap((item) => [
      item.champion?.high ?? 0,
      item.trend?.effect ?? 0,
      item.smallest * 1.4,
    ]),
  );
  const runs = byVersion(windows);
  const label = (text, colour, offset) => ({
    show: true,
    formatter: text,
    color: colour,
    fontSize: 11,
    distance: 8,
    offset: [0, offset],
  });
  const top = nice(highest);
  const offsets = labelOffsets(windows[windows.length - 1], top, height);

  return {
    grid: GRID,
    tooltip: { ...tooltip(colours), trigger: "axis", formatter: (items) => tell(windows, items) },
    xAxis: timeAxis(colours, { min: start, max: end }),
    yAxis: valueAxis(colours, {
      min: 0,
      max: top,
      axisLabel: { color: colours.muted, fontSize: 11, formatter: number },
    }),
    series: [
      band(windows, colours, { episodes, promotions }, label("80 % power", colours.muted, offsets.smallest)),
      ...runs.flatMap((run, index) => [
        ...ribbon(run, index, colours),
        {
          type: "line",
          name: run[0].version,
          data: run.map((item) => [item.at, item.champion.effect]),
          showSymbol: true,
          symbol: "circle",
          symbolSize: 4,
          lineStyle: { color: colours.blue, width: 2 },
          itemStyle: { color: colours.blue },
          endLabel:
            index === runs.length - 1 ? label(run[0].version, colours.blue, offsets.champion) : {},
          z: 4,
        },
      ]),
      {
        type: "line",
        name: "fixed encoder",
        data: windows.filter((item) => item.trend).map((item) => [item.at, item.trend.effect]),
        showSymbol: false,
        symbol: "none",
        lineStyle: { color: colours.text, width: 1.4, type: [2, 3] },
        itemStyle: { color: colours.text },
        endLabel: label("fixed encoder", colours.muted, offsets.trend),
        z: 5,
      },
      {
        type: "scatter",
        name: "alarm",
        data: windows
          .filter((item) => item.alarm)
          .map((item) => [item.at, (item.champion ?? item.trend).effect]),
        symbol: "diamond",
        symbolSize: 12,
        itemStyle: {
          color: episodes.some((episode) => episode.open) ? colours.red : colours.text,
          borderColor: colours.card,
          borderWidth: 1.5,
        },
        z: 6,
      },
    ],
  };
};

// Runs of windows that one version judged: two versions' spaces are never joined by a line.
const byVersion = (windows) => {
  const runs = [];
  for (const item of windows) {
    if (!item.champion) continue;
    const newest = runs[runs.length - 1];
    if (newest && newest[0].version === item.version) newest.push(item);
    else runs.push([item]);
  }
  return runs;
};

const ribbon = (run, index, colours) => {
  const side = (name, values, area) => ({
    type: "line",
    name,
    stack: `interval ${index}`,
    data: run.map((item, position) => [item.at, values[position]]),
    showSymbol: false,
    symbol: "none",
    silent: true,
    lineStyle: { opacity: 0 },
    areaStyle: area,
    z: 3,
  });
  const low = run.map((item) => item.champion.low);
  const width = run.map((item) => item.champion.high - item.champion.low);
  return [
    side("low", low, { opacity: 0 }),
    side("interval", width, { color: colours.ribbon, opacity: 1 }),
  ];
};

// What is too small for a window to show, as a band; it carries the marks, too.
const band = (windows, colours, { episodes, promotions }, endLabel) => {
  const last = windows[windows.length - 1];
  return {
    type: "line",
    name: "smallest",
    step: "middle",
    data: [
      [windows[0].start, windows[0].smallest],
      ...windows.map((item) => [item.at, item.smallest]),
      [last.end, last.smallest],
    ],
    showSymbol: false,
    symbol: "none",
    silent: true,
    lineStyle: { color: colours.blue, width: 1, type: [4, 4], opacity: 0.55 },
    areaStyle: { color: colours.band, opacity: 1, origin: "start" },
    endLabel,
    z: 1,
    markArea: {
      silent: true,
      data: episodes.map((episode, place) => [
        {
          name: episode.label,
          xAxis: episode.start,
          itemStyle: { color: episode.open ? colours.alert_band : colours.past_band },
          label: {
            position: "insideTopLeft",
            color: episode.open ? colours.red : colours.muted,
            fontSize: 11,
            distance: 6,
            // One that follows another at once would be written over it.
            offset: [0, 14 * (place % 2)],
          },
        },
        { xAxis: episode.end },
      ]),
    },
    markLine: {
      silent: true,
      symbol: ["circle", "none"],
      symbolSize: 7,
      lineStyle: { color: colours.green, width: 1.5, type: "solid" },
      label: {
        position: "end",
        formatter: ({ name }) => name,
        color: colours.green,
        fontSize: 11,
        distance: 4,
      },
      data: promotions.map((item) => ({ name: `${item.version} promoted`, xAxis: item.at })),
    },
  };
};

// Moves the labels at the right end apart, each as little as it takes.
const labelOffsets = (last, top, height) => {
  const pixels = (value) => (value / top) * (height - GRID.top - GRID.bottom);
  const ends = [
    { name: "champion", at: last.champion?.effect },
    { name: "trend", at: last.trend?.effect },
    { name: "smallest", at: last.smallest },
  ]
    .filter((end) => end.at !== undefined)
    .map((end) => ({ ...end, at: pixels(end.at) }))
    .sort((a, b) => a.at - b.at);
  const offsets = { champion: 0, trend: 0, smallest: 0 };
  let below = -Infinity;
  for (const end of ends) {
    const place = Math.max(end.at, below + LABEL_DISTANCE);
    offsets[end.name] = end.at - place; // the canvas counts downwards
    below = place;
  }
  return offsets;
};

const nice = (highest) => {
  const step = highest > 4 ? 1 : highest > 2 ? 0.5 : highest > 1 ? 0.25 : 0.1;
  return Math.ceil((highest * 1.12) / step) * step;
};

const tell = (windows, items) => {
  const at = items.find((item) => item.seriesName === "fixed encoder" || item.seriesName.includes("@"));
  const found = at && windows.find((item) => item.at === at.value[0]);
  if (!found) return "";
  const line = (name, value) =>
    value
      ? `\n${name}  ${number(value.effect)} (${number(value.low)}–${number(value.high)}), p ${value.p}`
      : "";
  return (
    found.name +
    line(found.version ?? "champion", found.champion) +
    line("fixed encoder", found.trend) +
    `\nwould have shown from  ${number(found.smallest)}` +
    (found.alarm ? "\nalarm" : "")
  );
};
