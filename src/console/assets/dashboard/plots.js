// The plots: five minutes of samples, drawn anew once a second.
//
// Each plot says its latest numbers in words as well, for who does not see it.

const SHOWN_SECONDS = 300;
// A longer pause between two samples is a gap: nobody looked then.
const GAP_SECONDS = 5;
const HEIGHT = 180;

const number = (digits) => (value) => value.toLocaleString("en", { maximumFractionDigits: digits });
const share = (part) => (sample) => (sample.requests ? (100 * part(sample)) / sample.requests : 0);
const milliseconds = (value) => (value < 1 ? `${number(0)(value * 1000)} µs` : value < 1000 ? `${number(1)(value)} ms` : `${number(1)(value / 1000)} s`);
const percentiles = (key) => [
  { name: "half below", color: "one", of: (sample) => sample[key].p50 },
  { name: "95 % below", color: "two", of: (sample) => sample[key].p95 },
  { name: "99 % below", color: "three", of: (sample) => sample[key].p99 },
];

const PLOTS = [
  {
    title: "Requests a second",
    show: number(1),
    series: [{ name: "requests", color: "one", of: (sample) => sample.rate }],
  },
  {
    title: "Failed, by whose fault",
    show: (value) => `${number(1)(value)} %`,
    most: 100,
    series: [
      { name: "Fluent", color: "two", of: share((sample) => sample.upstream) },
      { name: "credentials or login", color: "three", of: share((sample) => sample.identity) },
      { name: "proxy", color: "one", of: share((sample) => sample.proxy) },
      { name: "caller", color: "four", of: share((sample) => sample.client) },
    ],
  },
  { title: "Fluent’s share of the time", show: milliseconds, series: percentiles("upstream_ms") },
  { title: "The proxy’s own share of the time", show: milliseconds, series: percentiles("own_ms") },
];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The columns of a plot: times first, and an empty sample where nobody looked.
function columns(series, samples) {
  const rows = [];
  for (const sample of samples) {
    const time = sample.at / 1000;
    const before = rows.at(-1)?.[0];
    if (before !== undefined && time - before > GAP_SECONDS) {
      rows.push([before + 1, ...series.map(() => null)]);
    }
    rows.push([time, ...series.map(({ of }) => of(sample))]);
  }
  return [0, ...series.keys().map((index) => index + 1)].map((column) => rows.map((row) => row[column]));
}

function makePlot(plot, width) {
  const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line"), width: 1 } };
  return new uPlot(
    {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: () => [Date.now() / 1000 - SHOWN_SECONDS, Date.now() / 1000] },
        y: { range: (_, __, most) => [0, plot.most ?? Math.max(most ?? 0, 0.01) * 1.1] },
      },
      axes: [axis, { ...axis, size: 64, values: (_, values) => values.map(plot.show) }],
      series: [
        {},
        ...plot.series.map(({ color: name }) => ({ stroke: color(name), width: 2, points: { size: 4 } })),
      ],
    },
    columns(plot.series, []),
    plot.place,
  );
}

/** Makes the plots in `place`; the answer draws samples. */
export function makePlots(place) {
  let samples = [];
  for (const plot of PLOTS) {
    plot.now = element("p", { className: "now" });
    plot.place = element("div", {});
    // Its numbers are told in words below.
    plot.place.setAttribute("aria-hidden", "true");
    const keys = plot.series.map(({ name, color }) => {
      const key = element("span", { className: "key" }, name);
      key.dataset.color = color;
      return key;
    });
    place.append(
      element(
        "figure",
        {},
        element("figcaption", {}, plot.title),
        plot.now,
        plot.place,
        element("p", { className: "keys" }, ...(plot.series.length > 1 ? keys : [])),
      ),
    );
  }

  const draw = () => {
    const last = samples.at(-1);
    for (const plot of PLOTS) {
      plot.drawn?.setData(columns(plot.series, samples));
      const told = plot.series.map(({ name, of }) => {
        const value = last && of(last);
        return `${name} ${value === undefined || value === null ? "–" : plot.show(value)}`;
      });
      plot.now.textContent = `Now: ${told.join(", ")}`;
    }
  };
  const make = () => {
    for (const plot of PLOTS) {
      plot.drawn?.destroy();
      plot.drawn = makePlot(plot, plot.place.clientWidth);
    }
    draw();
  };
  make();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", make);
  new ResizeObserver(() => {
    for (const { drawn, place } of PLOTS) {
      drawn.setSize({ width: place.clientWidth, height: HEIGHT });
    }
  }).observe(place);
  return (given) => {
    samples = given;
    draw();
  };
}
