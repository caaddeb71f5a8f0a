// Shows /v1/live, asked again every few seconds.
"use strict";

const EVERY = 5000;
const SHOWN_VERSIONS = 6;
// Above this lift, with its whole interval, new accounts are to be looked at.
const SUSPICIOUS = 2;
let token = "";
let timer = null;

const at = (id) => document.getElementById(id);

function say(text) {
  // Only what is new is read out.
  if (at("state").textContent !== text) at("state").textContent = text;
}

function put(id, ...parts) {
  at(id).replaceChildren(...parts);
}

const short = (version) => version.slice(0, 8);
const digits = (value, count = 3) => (value === null || value === undefined ? "–" : value.toFixed(count));
const milliseconds = (value) => (value === null || value === undefined ? "–" : (1000 * value).toPrecision(3));
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const number = (value) => Number(value.toPrecision(3)).toLocaleString("en");
const when = (seconds) => new Date(seconds * 1000).toLocaleString();
const within = (found) => (found ? `${digits(found.value)} (${digits(found.low)}–${digits(found.high)})` : "–");

function card(name, value) {
  const box = make("div");
  box.append(make("dt", name), make("dd", value));
  return box;
}

function showNow(told) {
  const last = told.points[told.points.length - 1] || {};
  const cards = [
    card("Version", short(told.version)), card("Model", told.model),
    card("Users", number(told.users)), card("Items", number(told.items)),
  ];
  if (told.metrics === "there" && told.points.length) {
    cards.push(
      card("Answers a second", number(last.answers_per_second)),
      card("Not answered a second", number(last.refused_per_second)),
      card("p99 of a call, ms", milliseconds(last.p99)),
      card("Requests that wait", last.queue ?? "–"),
      card("Workers", last.workers ?? "–"), card("Workers lost", last.lost ?? "–"),
    );
  }
  put("now", ...cards);
  at("experiment").hidden = !told.experiment;
  at("experiment").textContent = told.experiment ? `Experiment: ${told.experiment}` : "";
}

function showSuspicion(surveys) {
  const measured = surveys.filter((each) => each.lift).slice(-SHOWN_VERSIONS);
  const last = surveys[surveys.length - 1];
  let verdict = "No version was looked at: start the server with --metrics-port or --survey.";
  let bad = false;
  if (last && !last.lift) {
    verdict = "No accounts came since the version before, or there was none: nothing to compare.";
  } else if (last) {
    const lift = last.lift;
    bad = lift.low > SUSPICIOUS;
    const often = `New accounts are ${percent(last.new_accounts)} of all, and have `
      + `${percent(last.new_neighbors)} of the places in neighborhoods: ${digits(lift.value, 2)} times `
      + `their part (${digits(lift.low, 2)}–${digits(lift.high, 2)}).`;
    verdict = bad ? `Suspicious. ${often} Look at them before you trust this version.`
      : `Nothing suspicious. ${often}`;
  }
  at("verdict").textContent = verdict;
  at("verdict").className = bad ? "note bad" : "note";
  put("lift", bars("Lift of new accounts among neighbors", ["lift"],
    measured.map((each) => ({ name: short(each.version), bars: [each.lift] })), number, 1));
  put("lift-table", table("Neighbors by version",
    ["version", "preset", "users asked", "new accounts", "among neighbors", "lift", "places of the top 1 %"],
    surveys.slice(-SHOWN_VERSIONS).map((each) => [
      short(each.version), each.preset, number(each.users), percent(each.new_accounts),
      percent(each.new_neighbors), within(each.lift), percent(each.hub_neighbors)])));
}

function showDefense(surveys) {
  const some = surveys.slice(-SHOWN_VERSIONS);
  const names = ["defended", "undefended"];
  const groups = (what) => some.map((each) => ({
    name: short(each.version), bars: names.map((how) => each[what][how]),
  })).filter((group) => group.bars.some(Boolean));
  put("defense-hits", bars("Hit ratio of watched items", names, groups("hit_ratio"), (v) => digits(v, 2)));
  put("defense-found", bars("Accuracy", names, groups("accuracy"), (v) => digits(v, 2)));
  put("defense-table", table("Lists with and without the defense",
    ["version", "preset", "hit ratio, defended", "undefended", "accuracy, defended", "undefended", "in common"],
    some.map((each) => [
      short(each.version), each.preset, ...["hit_ratio", "accuracy"].flatMap((what) => (
        names.map((how) => within(each[what][how])))), percent(each.common)])));
}

function showReports(told) {
  const about = (step) => `${step.preset} ${short(step.version)}`;
  const newest = [...new Set(told.reports.map(about))].slice(-4);
  const series = (what) => newest.map((name) => ({
    name,
    points: told.reports.filter((step) => about(step) === name && step[what])
      .map((step) => ({ at: step.at, ...step[what] })),
  })).filter((each) => each.points.length);
  put("hit-ratio", lines("Hit ratio of watched items", series("hit_ratio"), (v) => digits(v, 2), 0.05));
  put("accuracy", lines("Accuracy", series("accuracy"), (v) => digits(v, 2), 0.05));
  put("reports-table", table("Reports, newest first",
    ["time", "version", "preset", "reports", "hit ratio", "accuracy"],
    told.reports.slice(-50).reverse().map((step) => [
      when(step.at), short(step.version), step.preset, number(step.reports),
      within(step.hit_ratio), within(step.accuracy)])));
  put("watched", table("Items whose hit ratio is measured", ["id", "title", "index"],
    told.watched.map((item) => [item.id, item.title ?? "–", item.index])));
}

function showLoad(told) {
  const points = told.points;
  const of = (name, key, scale = 1) => ({
    name, points: points.filter((one) => one[key] !== null)
      .map((one) => ({ at: one.at, value: scale * one[key] })),
  });
  put("load", lines("Calls a second", [of("answered", "answers_per_second"), of("not answered", "refused_per_second")], number));
  put("latency", lines("Milliseconds of a call", [of("p50", "p50", 1000), of("p99", "p99", 1000)], number));
  put("points-table", table("Load, newest first",
    ["time", "answered a second", "not answered a second", "p50, ms", "p99, ms", "waiting", "workers"],
    points.slice(-24).reverse().map((one) => [
      clock(one.at), number(one.answers_per_second), number(one.refused_per_second),
      milliseconds(one.p50), milliseconds(one.p99), one.queue ?? "–", one.workers ?? "–"])));
  put("stages", table("Latency by call and stage", ["call", "stage", "calls", "p50, ms", "p99, ms"],
    told.stages.map((each) => [
      each.call, each.stage, number(each.calls), milliseconds(each.p50), milliseconds(each.p99)])));
}

function show(told) {
  showNow(told);
  showSuspicion(told.surveys);
  showDefense(told.surveys);
  showReports(told);
  showLoad(told);
  put("versions", table("Versions that the gateway has seen", ["version", "first seen", ""],
    [...told.seen].reverse().map((each) => [
      each.version, when(each.since), each.version === told.version ? "served now" : ""])));
  at("all").hidden = false;
  at("enter").hidden = true;
  if (told.metrics === "none") {
    say("Connected. The gateway was started without --server-metrics: load is not shown.");
  } else if (told.metrics === "away") {
    say("The server's metrics cannot be read now; what follows is from before.");
  } else {
    say("Connected. The numbers are renewed every five seconds.");
  }
}

async function ask() {
  clearTimeout(timer);
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("v1/live", { headers, cache: "no-store" });
    const told = await answer.json();
    if (answer.status === 401 || answer.status === 403) {
      at("enter").hidden = false;
      at("all").hidden = true;
      say(token ? `Not shown: ${told.error}.` : "This server shows its numbers to its operator.");
      if (token) { token = ""; at("token").focus(); }
      return;
    }
    if (!answer.ok) throw new Error(told.error || `status ${answer.status}`);
    show(told);
  } catch (error) {
    say(`No numbers now: ${error.message}. It is tried again.`);
  }
  timer = setTimeout(ask, EVERY);
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  ask();
});

ask();
