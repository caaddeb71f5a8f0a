// Draws the API from openapi.json. All text goes in as text: nothing of it becomes markup.
"use strict";

function make(tag, text, attributes) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  return made;
}

function nameOf(reference) {
  return reference.split("/").pop();
}

// A schema in a few words; those that have a name are links.
function words(schema) {
  if (!schema) return make("span", "any");
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return make("a", name, { href: `#shape-${name}` });
  }
  const told = make("span");
  const choices = schema.anyOf || schema.oneOf;
  if (choices) {
    choices.forEach((choice, at) => {
      if (at) told.append(" or ");
      told.append(words(choice));
    });
    return told;
  }
  if (schema.type === "array") {
    told.append("list of ", words(schema.items));
    return told;
  }
  const limits = [];
  if (schema.minimum !== undefined) limits.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) limits.push(`to ${schema.maximum}`);
  if (schema.exclusiveMaximum !== undefined) limits.push(`below ${schema.exclusiveMaximum}`);
  if (schema.maxLength !== undefined) limits.push(`at most ${schema.maxLength} characters`);
  told.append([schema.type || "any", ...limits].join(" "));
  return told;
}

function table(caption, heads, rows) {
  const made = make("table");
  made.append(make("caption", caption));
  const head = make("tr");
  heads.forEach((each) => head.append(make("th", each, { scope: "col" })));
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  for (const [first, ...rest] of rows) {
    const row = make("tr");
    const name = make("th", null, { scope: "row" });
    name.append(first);
    row.append(name);
    rest.forEach((each) => {
      const cell = make("td");
      cell.append(each);
      row.append(cell);
    });
    body.append(row);
  }
  made.append(top, body);
  const scrolled = make("div", null, {
    class: "wide", role: "region", tabindex: "0", "aria-label": caption,
  });
  scrolled.append(made);
  return scrolled;
}

function schemaOf(content) {
  const json = (content || {})["application/json"];
  return json && json.schema;
}

function call(method, path, about) {
  const section = make("section");
  const heading = make("h2");
  heading.append(make("code", `${method.toUpperCase()} ${path}`));
  section.append(heading, make("p", about.description || about.summary || ""));
  if (about.security) section.append(make("p", "Takes a bearer token: Authorization: Bearer …"));
  const asked = about.requestBody && schemaOf(about.requestBody.content);
  if (asked) {
    const line = make("p", "Body, as application/json: ");
    line.append(words(asked));
    section.append(line);
  }
  const rows = Object.entries(about.responses || {}).map(([status, answer]) => [
    status, answer.description || "", words(schemaOf(answer.content)),
  ]);
  section.append(table(`Answers of ${path}`, ["status", "when", "what"], rows));
  return section;
}

function shape(name, schema) {
  const section = make("section", null, { id: `shape-${name}` });
  section.append(make("h3", name), make("p", schema.description || ""));
  const wanted = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([field, each]) => [
    make("code", field),
    words(each),
    wanted.has(field) ? "always" : "may be left out",
    each.description || "",
  ]);
  section.append(table(`Fields of ${name}`, ["field", "type", "there", "what"], rows));
  return section;
}

async function draw() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const api = await answer.json();
    document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
    document.getElementById("about").textContent = api.info.description || "";
    const calls = document.getElementById("calls");
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, about] of Object.entries(methods)) {
        calls.append(call(method, path, about));
      }
    }
    const shapes = document.getElementById("shapes");
    for (const [name, schema] of Object.entries((api.components || {}).schemas || {})) {
      if (!["HTTPValidationError", "ValidationError"].includes(name)) {
        shapes.append(shape(name, schema));
      }
    }
    state.textContent = "";
  } catch (error) {
    state.textContent = `openapi.json cannot be read (${error.message}): reload the page to try again`;
  }
}

draw();
