// One source's scans by hour over a week: received as bars, expected as a line, alarms as bands.
import { dayOf, timeAxis, tooltip, valueAxis } from "./chart_parts.js";

const HOUR = 3_600_000;

export const arrivalsChart = (data, colours) => {
  const start = new Date(data.start).getTime();
  const end = start + data.received.length * HOUR;
  const middle = (hour) => start + (hour + 0.5) * HOUR;
  const line = data.alarming ? colours.red : colours.text;
  const highest = Math.max(1, ...data.received, ...data.expected);

  return {
    grid: { left: 34, right: 8, top: 8, bottom: 22 },
    tooltip: {
      ...tooltip(colours),
      trigger: "axis",
      formatter: ([item]) => tell(data, start, item.dataIndex),
    },
    xAxis: timeAxis(colours, { min: start, max: end }),
    yAxis: valueAxis(colours, { min: 0, max: Math.ceil(highest), splitNumber: 3 }),
    series: [
      {
        type: "bar",
        name: "received",
        data: data.received.map((count, hour) => [middle(hour), count]),
        barWidth: "70%",
        itemStyle: { color: colours.blue, opacity: 0.55 },
        z: 2,
        markArea: {
          silent: true,
          data: data.alarms.map((alarm) => [
            {
              xAxis: Math.max(start, new Date(alarm.from).getTime()),
              itemStyle: { color: colours.alert_band },
            },
            { xAxis: end },
          ]),
        },
      },
      {
        type: "line",
        name: "expected",
        step: "middle",
        data: data.expected.map((count, hour) => [middle(hour), count]),
        showSymbol: false,
        symbol: "none",
        lineStyle: { color: line, width: 1.4 },
        itemStyle: { color: line },
        z: 3,
      },
    ],
  };
};

const tell = (data, start, hour) => {
  const at = new Date(start + hour * HOUR);
  const clock = `${String(at.getUTCHours()).padStart(2, "0")}:00 UTC`;
  return (
    `${dayOf(at)}, from ${clock}\nreceived  ${data.received[hour]}\n` +
    `expected  ${data.expected[hour].toFixed(1)}`
  );
};
