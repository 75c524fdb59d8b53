// One measure on labelled scans, week by week, with its interval as a whisker.
import { dayOf, fraction, tooltip, valueAxis } from "./chart_parts.js";

// Values are written at their points while there is room.
const ROOM = 8;

export const labelledChart = (data, colours, { measure }) => {
  const { weeks, baseline } = data;
  const current = weeks[weeks.length - 1].version;
  const reference = baseline?.[measure];
  const lowest = Math.min(...weeks.map((week) => week[measure][1]), reference ?? 1);
  const interval = lowest > 0.72 ? 0.1 : lowest > 0.42 ? 0.2 : 0.25;
  const floor = Math.max(0, 1 - interval * Math.ceil((1.02 - lowest) / interval));
  const names = weeks.map((week) => week.name);

  return {
    grid: { left: 34, right: 26, top: 12, bottom: 40 },
    tooltip: {
      ...tooltip(colours),
      trigger: "axis",
      formatter: ([item]) => tell(weeks[item.dataIndex], measure),
    },
    xAxis: {
      type: "category",
      data: names,
      axisLine: { lineStyle: { color: colours.line } },
      axisTick: { show: false },
      axisLabel: {
        color: colours.muted,
        fontSize: 11,
        lineHeight: 15,
                interval: weeks.length <= ROOM ? 0 : "auto",
        formatter: (_, index) => `${dayOf(weeks[index].start)}\n@${weeks[index].version.split("@")[1]}`,
      },
    },
    yAxis: valueAxis(colours, {
      min: floor,
      max: 1,
      interval,
      axisLabel: { color: colours.muted, fontSize: 11, formatter: fraction },
    }),
    series: [
      {
        type: "line",
        name: measure,
        data: weeks.map((week) => ({
          value: week[measure][0],
          itemStyle: {
            color: week.version === current ? colours.blue : colours.card,
            borderColor: colours.blue,
            borderWidth: 2,
          },
        })),
        symbol: "circle",
        symbolSize: 8,
        lineStyle: { color: colours.blue, width: 1, opacity: 0.5 },
        label: {
          show: weeks.length <= ROOM,
          position: "right",
          distance: 6,
          formatter: ({ value }) => fraction(value),
          color: colours.text,
          textBorderColor: colours.card,
          textBorderWidth: 3,
          fontSize: 11,
        },
        z: 4,
        markLine: {
          silent: true,
          symbol: "none",
          data: [
            ...weeks.map((week, index) => whisker(index, week[measure], colours)),
            ...(reference ? [level(reference, colours)] : []),
          ],
        },
      },
    ],
  };
};

const whisker = (index, [, low, high], colours) => [
  {
    coord: [index, low],
    symbol: "none",
    lineStyle: { color: colours.blue, width: 1.5, type: "solid" },
    label: { show: false },
  },
  { coord: [index, high], symbol: "none" },
];

const level = (value, colours) => ({
  yAxis: value,
  lineStyle: { color: colours.muted, width: 1, type: [3, 3] },
  label: { show: false },
});

const tell = (week, measure) => {
  const [estimate, low, high] = week[measure];
  return (
    `${week.name}\n${week.version}, ${week.scans} labelled scans\n` +
    `${measure}  ${fraction(estimate)} (${fraction(low)}–${fraction(high)})`
  );
};
