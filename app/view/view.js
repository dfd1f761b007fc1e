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
// A step, with a button that fetches what was rolled out from behind it.
const step = (value, place) => {
  const box = make("div", { class: value.first_pit ? "step pit" : "step" }, make("div", { class: "text" }, value.step ? value.text : "before the first step"), told(value));
  if (!value.judged || value.low === value.high) return box;
  const button = make("button", { type: "button", class: "more" }, "rollouts");
  button.addEventListener("click", async () => {
    const found = await fetched(`api/rollouts/${place}/${value.step}`);
    const rows = found.map((one) => make("div", {}, make("span", { class: one.outcome }, one.outcome), ` · ended by ${one.finish}`, make("pre", {}, one.text)));
    button.remove();
    box.append(make("div", { class: "rolled" }, ...rows.length ? rows : [make("p", { class: "note" }, "None of its own: the problem's samples served.")]));
  });
  box.lastChild.append(button);
  return box;
};

const show = (trace, run, policy, shard, row) => {
  const place = `${run}/${policy}/${shard}/${row}`;
  const verdict = trace.verdict || { outcome: "not judged", extracted: null, reason: "" };
  const parts = [
    make("h2", {}, "Problem ", trace.problem.id), make("pre", {}, trace.problem.statement),
    make("p", {}, "reference answer ", make("strong", {}, trace.problem.answer)),
    make("h2", {}, `Sample ${trace.sample}: `, make("span", { class: verdict.outcome }, verdict.outcome)),
    make("p", { class: "note" }, `answer ${verdict.extracted ?? "none"} · ${verdict.reason} · ${trace.tokens.toLocaleString("en")} tokens · ended by ${trace.finish}`),
  ];
  if (trace.start) parts.push(step(trace.start, place));
  if (trace.steps.length) parts.push(...trace.steps.map((value) => step(value, place)));
  else parts.push(make("pre", {}, trace.text), make("p", { class: "note" }, `No step values: ${trace.unvalued}.`));
  for (const pair of trace.pairs) {
    parts.push(make("h2", {}, `Pair of ${pair.set}: this trace is ${pair.side}`),
      make("p", { class: "note" }, pair.step === null ? "two whole traces" : `parted in step ${pair.step}; Q before ${number(pair.q_before)}, after ${number(pair.q_after)}`),
      make("pre", { class: "note" }, pair.prompt),
      make("div", { class: "sides" },
        make("div", { class: "chosen" }, make("strong", {}, "chosen"), make("pre", {}, pair.chosen)),
        make("div", { class: "rejected" }, make("strong", {}, "rejected"), make("pre", {}, pair.rejected))));
  }
  if (trace.answers.length) {
    const links = trace.answers.map((one) => make("li", {}, make("a", { href: `#${encodeURIComponent(one.run)}/${encodeURIComponent(one.samples)}/${one.shard}/${one.row}` }, one.run === decodeURIComponent(run) ? one.samples : `${one.samples} of ${one.run}`), ": ", make("span", { class: one.outcome }, one.outcome)));
    parts.push(make("h2", {}, "The same problem, by others"), make("ul", {}, ...links));
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
  follow(...[run, policy].map(decodeURIComponent));
  show(await fetched(`api/trace/${run}/${policy}/${shard}/${row}`), run, policy, shard, row);
};
// The list goes where a link led.
const follow = (run, policy) => {
  if (!runs[run]?.samples[policy] || (part("run") === run && part("policy") === policy)) return;
  form.elements.run.value = run;
  policies();
  form.elements.policy.value = policy;
  filters();
  again();
};
const failed = (error) => { $("count").textContent = error.message; };
const again = () => { start = 0; list().catch(failed); };
const drawn = () => {
  $("plots").href = `#plots/${here()}`;
  if (location.hash.startsWith("#plots/")) location.hash = `#plots/${here()}`;
};
const choices = (select, none, pairs) => {
  const before = select.value;
  select.replaceChildren(make("option", { value: "" }, none), ...pairs.map(([value, text]) => make("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) select.value = before;
};
const filters = () => {
  const run = part("run"), policy = part("policy"), { outcomes, reasons } = runs[run].samples[policy];
  const others = Object.entries(runs).flatMap(([name, about]) => about.held_out.map((samples) => [name, samples]));
  const against = !runs[run].held_out.includes(policy) ? [] : others.filter(([name, samples]) => name !== run || samples !== policy);
  choices(form.elements.outcome, "all", outcomes.map((name) => [name, name]));
  choices(form.elements.reason, "all", reasons.map((name) => [name, name]));
  choices(form.elements.against, "none", against.flatMap(([name, samples]) => {
    const who = name === run ? samples : `${samples} of ${name}`;
    return [[`won:${name}/${samples}`, `right where ${who} is wrong`], [`lost:${name}/${samples}`, `wrong where ${who} is right`]];
  }));
  $("against").hidden = !against.length;
  drawn();
};
const policies = () => {
  const about = runs[part("run")];
  options(form.elements.policy, Object.keys(about.samples));
  $("run").textContent = about.run;
  $("report").href = `report/${encodeURIComponent(about.run)}`;
  filters();
};

const begin = async () => {
  if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token stays in the cookie
  runs = await fetched("api/runs");
  options(form.elements.run, Object.keys(runs));
  policies();
  form.addEventListener("input", (event) => { if (event.target.name === "run") policies(); else if (event.target.name === "policy") filters(); again(); });
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
