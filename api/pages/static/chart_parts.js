// What several charts share: axes, tooltips, and how numbers are written.

export const fraction = (value) =>
  value >= 0.995 ? value.toFixed(2) : value.toFixed(2).replace(/^0/, "");

export const number = (value) => value.toFixed(2);

export const tooltip = (colours) => ({
  // Drawn on the canvas: a page that forbids inline styles cannot hold the other kind.
  renderMode: "richText",
  backgroundColor: colours.card,
  borderColor: colours.line,
  borderWidth: 1,
  textStyle: { color: colours.text, fontSize: 12, fontFamily: colours.font },
  confine: true,
});

export const valueAxis = (colours, more = {}) => ({
  type: "value",
  axisLine: { show: false },
  axisTick: { show: false },
  splitLine: { lineStyle: { color: colours.line } },
  axisLabel: { color: colours.muted, fontSize: 11 },
  ...more,
});

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

// Days in UTC: a reader's own zone must not move a window to another day.
export const dayOf = (time) => {
  const at = new Date(time);
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
};

export const timeAxis = (colours, more = {}) => ({
  type: "time",
  axisLine: { lineStyle: { color: colours.line } },
  axisTick: { show: false },
  splitLine: { show: false },
  axisLabel: { color: colours.muted, fontSize: 11, hideOverlap: true, formatter: dayOf },
  ...more,
});
