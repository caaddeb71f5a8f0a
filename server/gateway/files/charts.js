// Tables and charts. All text goes in as text: nothing of it becomes markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function make(tag, text, attributes) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  return made;
}

function draw(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    made.setAttribute(name, typeof value === "number" ? value.toFixed(1) : value);
  }
  if (text !== undefined) made.textContent = String(text);
  return made;
}

function table(caption, heads, rows) {
  const made = make("table");
  made.append(make("caption", caption));
  const top = make("thead");
  const head = make("tr");
  heads.forEach((each) => head.append(make("th", each, { scope: "col" })));
  top.append(head);
  const body = make("tbody");
  for (const cells of rows) {
    const row = make("tr");
    cells.forEach((each, at) => {
      row.append(at ? make("td", each) : make("th", each, { scope: "row" }));
    });
    body.append(row);
  }
  if (!rows.length) {
    const row = make("tr");
    row.append(make("td", "nothing yet", { colspan: heads.length }));
    body.append(row);
  }
  made.append(top, body);
  const scrolled = make("div", null, {
    class: "wide", role: "region", tabindex: "0", "aria-label": caption,
  });
  scrolled.append(made);
  return scrolled;
}

// Round steps of an axis from 0 that reaches a value.
function ticks(most) {
  if (!(most > 0)) return [0, 1];
  const raw = most / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const found = [];
  for (let at = 0; at < most + step; at += step) found.push(at);
  return found;
}

let charts = 0;

// A picture with a title, and words that say what is in it.
function picture(title, words, width, height) {
  charts += 1;
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-labelledby": `chart-${charts}-title chart-${charts}-words`,
  });
  svg.append(draw("title", { id: `chart-${charts}-title` }, title));
  svg.append(draw("desc", { id: `chart-${charts}-words` }, words));
  return svg;
}

function framed(title, svg, names) {
  const figure = make("figure");
  figure.append(make("figcaption", title), svg);
  if (names.length > 1) {
    const legend = make("ul", null, { class: "legend" });
    names.forEach((name, at) => {
      const entry = make("li");
      entry.append(make("span", "", { class: `key series-${at}` }), name);
      legend.append(entry);
    });
    figure.append(legend);
  }
  return figure;
}

function empty(title, why) {
  const figure = make("figure");
  figure.append(make("figcaption", title), make("p", why, { class: "dim" }));
  return figure;
}

const WIDTH = 520;
const HEIGHT = 220;
const LEFT = 56;
const BOTTOM = 26;
const TOP = 10;

function clock(seconds) {
  const at = new Date(seconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((each) => String(each).padStart(2, "0")).join(":");
}

// series: [{name, points: [{at, value, low, high}]}]
function lines(title, series, shown, least) {
  const all = series.flatMap((each) => each.points);
  if (!all.length) return empty(title, "Nothing yet.");
  const from = Math.min(...all.map((each) => each.at));
  const to = Math.max(...all.map((each) => each.at), from + 1);
  const steps = ticks(Math.max(least || 0, ...all.map((each) => each.high ?? each.value)));
  const most = steps[steps.length - 1];
  const x = (at) => LEFT + ((at - from) / (to - from)) * (WIDTH - LEFT - 12);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const words = series.map((each) => {
    const last = each.points[each.points.length - 1];
    return last ? `${each.name}: ${shown(last.value)} at ${clock(last.at)}` : `${each.name}: none`;
  }).join("; ");
  const svg = picture(title, words, WIDTH, HEIGHT);
  for (const step of steps) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - 12, y1: y(step), y2: y(step), class: "grid" }));
    svg.append(draw("text", { x: LEFT - 6, y: y(step) + 4, class: "end" }, shown(step)));
  }
  svg.append(draw("text", { x: LEFT, y: HEIGHT - 6 }, clock(from)));
  svg.append(draw("text", { x: WIDTH - 12, y: HEIGHT - 6, class: "end" }, clock(to)));
  series.forEach((each, number) => {
    const points = each.points;
    if (points.length && points[0].low !== undefined) {
      for (const one of points) {
        svg.append(draw("line", {
          x1: x(one.at), x2: x(one.at), y1: y(one.low), y2: y(one.high),
          class: `range series-${number}`,
        }));
      }
    }
    const path = points.map((one, at) => `${at ? "L" : "M"}${x(one.at).toFixed(1)} ${y(one.value).toFixed(1)}`);
    svg.append(draw("path", { d: path.join(""), class: `line series-${number}` }));
    if (points.length < 60) {
      for (const one of points) {
        svg.append(draw("circle", { cx: x(one.at), cy: y(one.value), r: 3, class: `dot series-${number}` }));
      }
    }
  });
  return framed(title, svg, series.map((each) => each.name));
}

// groups: [{name, bars: [{name, value, low, high} or null]}]; mark is a value to compare with.
function bars(title, names, groups, shown, mark) {
  const all = groups.flatMap((each) => each.bars).filter(Boolean);
  if (!all.length) return empty(title, "Not measured here.");
  const steps = ticks(Math.max(mark || 0, 0.1, ...all.map((each) => each.high ?? each.value)));
  const most = steps[steps.length - 1];
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const room = (WIDTH - LEFT - 12) / groups.length;
  const words = groups.map((group) => `${group.name}: ${group.bars.map((bar, at) => (
    bar ? `${names[at]} ${shown(bar.value)}` : `${names[at]} not measured`)).join(", ")}`).join("; ");
  const svg = picture(title, words, WIDTH, HEIGHT);
  for (const step of steps) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - 12, y1: y(step), y2: y(step), class: "grid" }));
    svg.append(draw("text", { x: LEFT - 6, y: y(step) + 4, class: "end" }, shown(step)));
  }
  if (mark !== undefined) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - 12, y1: y(mark), y2: y(mark), class: "mark" }));
  }
  groups.forEach((group, place) => {
    const wide = Math.min(48, (room * 0.8) / group.bars.length);
    const begin = LEFT + room * place + (room - wide * group.bars.length) / 2;
    group.bars.forEach((bar, at) => {
      if (!bar) return;
      const middle = begin + wide * at + wide / 2;
      svg.append(draw("rect", {
        x: begin + wide * at + 1, width: Math.max(1, wide - 2), y: y(bar.value),
        height: Math.max(0.5, y(0) - y(bar.value)), class: `bar series-${at}`,
      }));
      if (bar.low !== undefined) {
        svg.append(draw("line", { x1: middle, x2: middle, y1: y(bar.low), y2: y(bar.high), class: "whisker" }));
      }
    });
    svg.append(draw("text", { x: LEFT + room * (place + 0.5), y: HEIGHT - 6, class: "middle" }, group.name));
  });
  return framed(title, svg, names);
}
