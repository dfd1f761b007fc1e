"use strict";
// Charts of numbers alone. `make` and `fetched` are those of view.js.
const WIDE = 420, HIGH = 190, LEFT = 44, BASE = 150;
const short = (value) => Math.abs(value) >= 1000 ? value.toLocaleString("en") : String(Number(value.toPrecision(3)));

const frame = (title, told, low, high, names) => {
  const drawing = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "chart", role: "img", "aria-label": `${title}: ${told}` });
  const y = (value) => BASE - (BASE - 12) * (value - low) / (high - low || 1);
  for (const value of [low, (low + high) / 2, high]) {
    drawing.append(make("line", { class: "grid", x1: LEFT, x2: WIDE - 8, y1: y(value), y2: y(value) }),
      make("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const [at, name, side] of names) drawing.append(make("text", { x: at, y: BASE + 18, "text-anchor": side }, name));
  return [drawing, y];
};
const paint = (at) => `s${at % 6}`;
const figure = (title, note, drawing, series) => {
  const key = !series.length ? [] : [make("ul", { class: "key" }, ...series.map((one) => make("li", { class: paint(one.at) }, one.name)))];
  return make("figure", {}, make("h3", {}, title), ...key, drawing, make("figcaption", { class: "note" }, note));
};
// Series of bars side by side: {name: [counts]}; ends are what the first and the last bar stand at.
const bars = (title, note, series, ends) => {
  const names = Object.keys(series), count = series[names[0]].length;
  const high = Math.max(1, ...names.flatMap((name) => series[name]));
  const told = names.map((name) => `${name} ${series[name].join(", ")}`).join("; ");
  const [drawing, y] = frame(title, told, 0, high, [[LEFT, ends[0], "start"], [WIDE - 8, ends[1], "end"]]);
  const room = (WIDE - 8 - LEFT) / count, width = 0.84 * room / names.length;
  names.forEach((name, row) => series[name].forEach((value, at) => drawing.append(make("rect",
    { class: paint(row), x: LEFT + room * at + 0.08 * room + width * row, y: y(value), width, height: BASE - y(value) },
    make("title", {}, `${name}: ${short(value)}`)))));
  return figure(title, note, drawing, names.length < 2 ? [] : names.map((name, at) => ({ name, at })));
};
// Series of points joined by lines: [{name, at, x, y}], `at` being the number of its colour; a y of null is left out.
const lines = (title, note, series, range, ends) => {
  const all = series.flatMap((one) => one.y.filter((value) => value !== null));
  const xs = series.flatMap((one) => one.x), first = Math.min(...xs), last = Math.max(...xs);
  const [low, high] = range || [Math.min(0, ...all), Math.max(...all)];
  const told = series.map((one) => { const seen = one.y.filter((value) => value !== null); return `${one.name} from ${short(seen[0])} to ${short(seen.at(-1))}`; }).join("; ");
  const [drawing, y] = frame(title, told, low, high, [[LEFT, ends ? ends[0] : `step ${first}`, "start"], [WIDE - 8, ends ? ends[1] : `${last}`, "end"]]);
  const x = (value) => LEFT + (WIDE - 8 - LEFT) * (value - first) / (last - first || 1);
  for (const one of series) {
    const points = one.x.map((value, place) => [value, one.y[place]]).filter((point) => point[1] !== null);
    drawing.append(make("polyline", { class: paint(one.at), points: points.map((point) => `${x(point[0])},${y(point[1])}`).join(" ") }));
    if (points.length < 30) for (const point of points) drawing.append(make("circle", { class: paint(one.at), cx: x(point[0]), cy: y(point[1]), r: 3 }, make("title", {}, `${one.name}: ${short(point[1])}`)));
  }
  return figure(title, note, drawing, series);
};

const TRAINING = { loss: "Loss", preference: "Preference loss, without its likelihood term", margin: "Margin: beta times chosen less rejected log pi/ref", accuracy: "Share of pairs whose chosen branch gained more", grad_norm: "Gradient norm" };
const plots = (found, trained) => {
  const tenths = ["first steps", "last steps"], parts = [], some = (counts) => counts && counts.some(Boolean);
  if (found.values) {
    const values = Object.entries(found.values).filter(([name]) => some(found.valued[name])).map(([name, y], at) => ({ name: `${name} traces`, at, x: y.map((_, at) => at), y }));
    if (values.length) parts.push(lines("Mean Q by place in the trace", "Tenths of a trace's steps; steps with a value alone.", values, [0, 1], tenths));
    if (some(found.pits)) parts.push(bars("First pits by place in the trace", "How many wrong traces went wrong in each tenth of their steps.", { pits: found.pits }, tenths));
    const spread = Object.fromEntries(Object.entries(found.advantages).filter(([, counts]) => some(counts)).map(([name, counts]) => [`${name} traces`, counts]));
    if (Object.keys(spread).length) parts.push(bars("Advantages of steps", "Steps by how much Q they gained or lost.", spread, ["−1", "+1"]));
  }
  if (some(found.problems)) parts.push(bars("Problems by share of right traces", "Hard problems at the left.", { problems: found.problems }, ["0%", "100%"]));
  for (const [key, title] of Object.entries(TRAINING)) {
    const series = trained.map((one, at) => ({ ...one, at })).filter((one) => one[key]).map((one) => ({ name: one.name, at: one.at, x: one.step, y: one[key] }));
    if (series.length) parts.push(lines(title, "By optimiser step.", series, key === "accuracy" ? [0, 1] : null));
  }
  return parts.length ? parts : [make("p", { class: "note" }, "Nothing to draw yet.")];
};
