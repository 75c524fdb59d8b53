// Scans on the reference's two principal components: reference, newest window, subgroup.

export const projectionChart = (data, colours) => {
  const marked = data.open ? colours.red : colours.blue;
  const places = [...data.reference, ...data.window, ...data.subgroup];
  const bounds = (axis) => {
    const sorted = places.map((place) => place[axis]).sort((a, b) => a - b);
    const margin = 0.06 * (sorted[sorted.length - 1] - sorted[0]);
    return { min: sorted[0] - margin, max: sorted[sorted.length - 1] + margin };
  };
  const axis = (index) => ({
    type: "value",
    show: false,
    ...bounds(index),
  });
  const cloud = (name, points, symbol, size, colour, opacity, z) => ({
    type: "scatter",
    name,
    data: points,
    symbol,
    symbolSize: size,
    itemStyle: { color: colour, opacity },
    silent: true,
    z,
  });
  return {
    grid: { left: 4, right: 4, top: 4, bottom: 4 },
    xAxis: axis(0),
    yAxis: axis(1),
    series: [
      cloud("reference", data.reference, "circle", 4, colours.reference, 0.55, 1),
      cloud("window", data.window, "circle", 5, colours.blue, 0.85, 2),
      cloud("subgroup", data.subgroup, "diamond", 7, marked, 0.75, 3),
    ],
  };
};
