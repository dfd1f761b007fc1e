"use strict";
// Whatever a model wrote becomes text, never markup: there is no innerHTML here.
const $ = (id) => document.getElementById(id);
const form = $("filters");
let runs = {}, rows = [], total = 0, start = 0, chosen = -1, asked = 0;

const make = (name, attributes = {}, ...children) => {
  const svg = ["svg", "rect", "circle", "title", "line", "polyline", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const fetched = async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};
const options = (select, names) => {
  const before = select.value;
  select.replaceChildren(...names.map((name) => make("option", {}, name)));
  if (names.includes(before)) select.value = before;
};
const part = (name) => form.elements[name].value;
const here = () => `${encodeURIComponent(part("run"))}/${encodeURIComponent(part("policy"))}`;

const list = async () => {
  const turn = ++asked;
  const query = new URLSearchParams(new FormData(form));
  query.set("start", start);
  $("count").textContent = "looking …";
  const found = await fetched(`api/traces/${here()}?${query}`);
  if (turn !== asked) return;
  ({ rows, total } = found);
  chosen = -1;
  const last = Math.min(start + rows.length, total);
  $("count").textContent = total ? `${start + 1} to ${last} of ${total.toLocaleString("en")} traces` : "no such trace";
  $("list").replaceChildren(...rows.map((row, place) => {
    const button = make("button", { type: "button" },
      make("span", { class: row.outcome }, row.outcome || "not judged"), ` · ${row.problem.slice(0, 10)}, sample ${row.sample}`,
      row.pit ? " · pit" : "");
    button.addEventListener("click", () => choose(place));
    return make("li", {}, button);
  }));
  $("before").disabled = !start;
  $("after").disabled = last >= total;
};

const choose = async (place) => {
  if (place < 0 || place >= rows.length) return;
  chosen = place;
  const buttons = $("list").querySelectorAll("button");
  buttons.forEach((button, at) => at === place ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current"));
  buttons[place].scrollIntoView({ block: "nearest" });
  location.hash = `${here()}/${rows[place].shard}/${rows[place].row}`;
};

const number = (value) => value === null ? "–" : value.toFixed(2);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
const picture = (value) => {
  const box = make("svg", { width: 160, height: 12, role: "img", "aria-label": `Q ${number(value.q)}, from ${number(value.low)} to ${number(value.high)}` });
  box.append(make("rect", { class: "bar", width: 160, height: 2, y: 5 }),
    make("rect", { class: "range", x: 160 * value.low, y: 2, height: 8, width: Math.max(1, 160 * (value.high - value.low)) }),
    make("circle", { class: "dot", cx: 4 + 152 * value.q, cy: 6, r: 4 }));
  return box;
};
const told = (value) => {
  const cell = make("div", { class: "value" });
  if (value.q === null) cell.append(make("span", { class: "note" }, value.why));
  else {
    const rolled = value.low === value.high ? "certain" : `${value.correct} of ${value.judged} rollouts right, 95% ${number(value.low)} to ${number(value.high)}`;
    cell.append(picture(value), `Q ${number(value.q)}`, value.advantage === null ? "" : `, advantage ${signed(value.advantage)}`, make("div", { class: "note" }, rolled));
  }
  const marks = [];
  if (value.first_pit) marks.push(`first pit${value.confidence === null ? "" : `, ${Math.round(100 * value.confidence)}% sure`}`);
  if (value.wrong_sums) marks.push(`${value.wrong_sums} wrong sum${value.wrong_sums > 1 ? "s" : ""}`);
  if (value.note) marks.push(value.note.replaceAll("_", " "));
  if (marks.length) cell.append(make("div", {}, make("strong", {}, marks.join(" · "))));
  return cell;
};
const step = (value) => make("div", { class: value.first_pit ? "step pit" : "step" }, make("div", { class: "text" }, value.text), told(value));

const show = (trace, run, policy, shard) => {
  const verdict = trace.verdict || { outcome: "not judged", extracted: null, reason: "" };
  const parts = [
    make("h2", {}, "Problem ", trace.problem.id), make("pre", {}, trace.problem.statement),
    make("p", {}, "reference answer ", make("strong", {}, trace.problem.answer)),
    make("h2", {}, `Sample ${trace.sample}: `, make("span", { class: verdict.outcome }, verdict.outcome)),
    make("p", { class: "note" }, `answer ${verdict.extracted ?? "none"} · ${verdict.reason} · ${trace.tokens.toLocaleString("en")} tokens · ended by ${trace.finish}`),
  ];
  if (trace.start) parts.push(make("div", { class: "step" }, make("div", { class: "note" }, "before the first step"), told(trace.start)));
  if (trace.steps.length) parts.push(...trace.steps.map(step));
  else parts.push(make("pre", {}, trace.text), make("p", { class: "note" }, `No step values: ${trace.unvalued}.`));
  for (const pair of trace.pairs) {
    parts.push(make("h2", {}, `Pair of ${pair.set}: this trace is ${pair.side}`),
      make("p", { class: "note" }, pair.step === null ? "two whole traces" : `parted in step ${pair.step}; Q before ${number(pair.q_before)}, after ${number(pair.q_after)}`),
      make("pre", { class: "note" }, pair.prompt),
      make("div", { class: "sides" },
        make("div", { class: "chosen" }, make("strong", {}, "chosen"), make("pre", {}, pair.chosen)),
        make("div", { class: "rejected" }, make("strong", {}, "rejected"), make("pre", {}, pair.rejected))));
  }
  const others = trace.siblings.map((row) => make("a", { href: `#${run}/${policy}/${shard}/${row}` }, `row ${row}`));
  parts.push(make("h2", {}, "Samples of this problem"), make("p", {}, ...others.flatMap((link) => [link, " "])));
  $("trace").replaceChildren(...parts);
};

const draw = async (run, policy) => {
  const names = Object.keys(runs), trained = [];
  for (const name of names) {
    const curves = await fetched(`api/curves/${encodeURIComponent(name)}`);
    for (const [method, curve] of Object.entries(curves)) trained.push({ name: names.length > 1 ? `${name}: ${method}` : method, ...curve });
  }
  const found = await fetched(`api/plots/${run}/${policy}`);
  $("trace").replaceChildren(make("h2", {}, `Samples of ${decodeURIComponent(policy)}, and training`), make("div", { class: "plots" }, ...plots(found, trained)));
};

const open = async () => {
  const found = location.hash.slice(1).split("/");
  if (found.length === 3 && found[0] === "plots") return draw(found[1], found[2]);
  if (found.length !== 4) return;
  const [run, policy, shard, row] = found;
  show(await fetched(`api/trace/${run}/${policy}/${shard}/${row}`), run, policy, shard);
};
const failed = (error) => { $("count").textContent = error.message; };
const again = () => { start = 0; list().catch(failed); };
const drawn = () => {
  $("plots").href = `#plots/${here()}`;
  if (location.hash.startsWith("#plots/")) location.hash = `#plots/${here()}`;
};
const policies = () => {
  const about = runs[part("run")];
  options(form.elements.policy, Object.keys(about.samples));
  form.elements.outcome.replaceChildren(make("option", { value: "" }, "all"), ...about.outcomes.map((name) => make("option", {}, name)));
  $("run").textContent = about.run;
  $("report").href = `report/${encodeURIComponent(about.run)}`;
  drawn();
};

const begin = async () => {
  if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token stays in the cookie
  runs = await fetched("api/runs");
  options(form.elements.run, Object.keys(runs));
  policies();
  form.addEventListener("input", (event) => { if (event.target.name === "run") policies(); else if (event.target.name === "policy") drawn(); again(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  $("before").addEventListener("click", () => { start = Math.max(0, start - 100); list().catch(failed); });
  $("after").addEventListener("click", () => { start += 100; list().catch(failed); });
  addEventListener("hashchange", () => open().catch(failed));
  addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j" || event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "k" || event.key === "ArrowUp") choose(chosen - 1);
    else return;
    event.preventDefault();
  });
  await list();
  await open();
};
begin().catch(failed);
