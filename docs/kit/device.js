// A device: fine-tunes a copy of the model on a neighborhood and ranks. No library; arrays of rows.
// Works in Node and in a browser. README.md beside it explains every step.
"use strict";
const zeros = (n, m) => Array.from({ length: n }, () => new Float64Array(m));
const transposed = (a) => zeros(a[0].length, a.length).map((row, i) => row.map((_, j) => a[j][i]));
const dot = (x, y) => { let sum = 0; for (let i = 0; i < x.length; i++) sum += x[i] * y[i]; return sum; };
const times = (a, b) => { const columns = transposed(b); return a.map((row) => Float64Array.from(columns, (c) => dot(row, c))); };
const combined = (a, b, factor) => a.map((row, i) => Float64Array.from(row, (x, j) => x + factor * b[i][j]));
const scaled = (a, factor) => a.map((row) => Float64Array.from(row, (x) => x * factor));
const identity = (n) => zeros(n, n).map((row, i) => { row[i] = 1; return row; });
const trace = (a) => a.reduce((sum, row, i) => sum + row[i], 0);

// Eigenvectors of a symmetric matrix in columns (Jacobi's rotations). A ramp on the diagonal lets
// every machine choose alike where eigenvalues are equal.
function eigenbasis(gram) {
  const n = gram.length, ramp = (0.01 * trace(gram)) / n, vectors = identity(n);
  const a = gram.map((row, i) => { const own = Float64Array.from(row); own[i] += n > 1 ? (ramp * i) / (n - 1) : 0; return own; });
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
      off += a[p][q] * a[p][q];
      if (Math.abs(a[p][q]) < 1e-300) continue;
      const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
      const c = 1 / Math.sqrt(t * t + 1), s = t * c;
      for (let k = 0; k < n; k++) { const x = a[k][p], y = a[k][q]; a[k][p] = c * x - s * y; a[k][q] = s * x + c * y; }
      for (let k = 0; k < n; k++) { const x = a[p][k], y = a[q][k]; a[p][k] = c * x - s * y; a[q][k] = s * x + c * y; }
      for (let k = 0; k < n; k++) { const x = vectors[k][p], y = vectors[k][q]; vectors[k][p] = c * x - s * y; vectors[k][q] = s * x + c * y; }
    }
    if (off < 1e-26 * trace(gram) ** 2) break;
  }
  return vectors;
}

// Rows of a gradient, each divided by a bound of its own curvature.
function divided(gradient, shared, basis, own, proximal) {
  const turned = times(times(transposed(basis), shared), basis);
  const bounds = turned.map((row) => row.reduce((sum, x) => sum + Math.abs(x), 0));
  const mean = trace(shared) / shared.length;
  const rows = times(gradient, basis).map((row, r) => row.map((x, j) => {
    const curvature = (own[r] > 0 ? own[r] : mean) + proximal + bounds[j];
    return x / (curvature > 0 ? curvature : 1);
  }));
  return times(rows, transposed(basis));
}

// X of left X = right; left is positive definite, so that no pivots are sought. Both are overwritten.
function solved(left, right) {
  for (let p = 0; p < left.length; p++) for (let r = 0; r < left.length; r++) {
    if (r === p) continue;
    const factor = left[r][p] / left[p][p];
    for (let c = p; c < left.length; c++) left[r][c] -= factor * left[p][c];
    for (let c = 0; c < right[r].length; c++) right[r][c] -= factor * right[p][c];
  }
  return right.map((row, r) => row.map((x) => x / left[r][r]));
}

// Vectors of rows, where none are sent: from the rows and the table of all items.
function folded(table, gram, rows) {
  const d = gram.length, ridge = (0.5 * trace(gram)) / d || 1, shared = combined(gram, identity(d), ridge);
  return rows.map((row) => {
    const own = row.items.map((item) => table[item]), weights = row.ratings.map((rating) => 4 * rating);
    const left = shared.map((line, i) => line.map((x, j) => x + own.reduce((sum, q, n) => sum + weights[n] * q[i] * q[j], 0)));
    const right = left.map((_, i) => [own.reduce((sum, q, n) => sum + (1 + weights[n]) * q[i], 0)]);
    return Float64Array.from(solved(left, right), (line) => line[0]);
  });
}

// Scores of every item for row 0 after fine-tuning matrix factorization.
function factorized(table, rows, vectors, settings) {
  const alpha = settings.unrated_weight, k = rows.length, d = table[0].length;
  const touched = [...new Set(rows.flatMap((row) => row.items))].sort((x, y) => x - y);
  const place = new Map(touched.map((item, at) => [item, at]));
  const count = rows.reduce((sum, row) => sum + row.items.length, 0);
  const proximal = settings.proximal_weight * Math.max(count, 1);
  const targets = zeros(touched.length, k), observed = zeros(touched.length, k);
  rows.forEach((row, v) => row.items.forEach((item, n) => { targets[place.get(item)][v] = row.ratings[n]; observed[place.get(item)][v] = 1; }));
  const weights = observed.map((row) => row.map((seen) => seen || alpha));
  const all = table.map((row) => Float64Array.from(row)), gram = times(transposed(all), all);
  const start = touched.map((item) => all[item]);
  const first = settings.fold_in ? folded(all, gram, rows) : vectors.map((row) => Float64Array.from(row));
  const restGram = combined(gram, times(transposed(start), start), -1), itemBasis = eigenbasis(gram);
  let items = start, embedding = first, map = identity(d), basis = null;
  let pull = scaled(restGram, alpha);
  const signal = () => items.map((q, i) => Float64Array.from(embedding, (z, v) => weights[i][v] * dot(q, z) - targets[i][v]));
  for (let step = 0; step < settings.steps && count > 0; step++) {
    // The rows' vectors.
    let gradient = combined(times(transposed(signal()), items), times(embedding, pull), 1);
    gradient = combined(gradient, combined(embedding, first, -1), proximal);
    const norms = items.map((q) => dot(q, q));
    const ownRows = rows.map((_, v) => (1 - alpha) * observed.reduce((sum, row, i) => sum + row[v] * norms[i], 0));
    const sharedRows = combined(pull, times(transposed(items), items), alpha);
    embedding = combined(embedding, divided(gradient, sharedRows, itemBasis, ownRows, proximal), -1);
    // The touched items, and one linear map of all others.
    const gramRows = times(transposed(embedding), embedding), shared = scaled(gramRows, alpha);
    basis = basis || eigenbasis(gramRows);
    const lengths = embedding.map((z) => dot(z, z));
    const ownItems = observed.map((row) => (1 - alpha) * dot(row, lengths));
    gradient = combined(times(signal(), embedding), combined(items, start, -1), proximal);
    items = combined(items, divided(gradient, shared, basis, ownItems, proximal), -1);
    if (alpha > 0) {
      const moved = combined(times(shared, map), combined(map, identity(d), -1), proximal);
      map = combined(map, transposed(divided(transposed(moved), shared, basis, new Float64Array(d), proximal)), -1);
      pull = scaled(times(times(map, restGram), transposed(map)), alpha);
    }
  }
  const carried = times(transposed(map), transposed([embedding[0]])).map((row) => row[0]);
  return Float64Array.from(all, (q, item) => place.has(item) ? dot(items[place.get(item)], embedding[0]) : dot(q, carried));
}

// Scores of every item for row 0 by EASE on the rows alone.
function shallow(itemCount, rows, penalty) {
  const touched = [...new Set(rows.flatMap((row) => row.items))].sort((x, y) => x - y);
  const x = rows.map((row) => { const own = new Set(row.items); return Float64Array.from(touched, (item) => +own.has(item)); });
  const k = rows.length, left = combined(times(x, transposed(x)), identity(k), penalty);
  const found = solved(left, x.map((row) => Float64Array.from(row)));
  const scores = new Float64Array(itemCount);
  touched.forEach((item, i) => {
    let sum = 0;
    for (let v = 0; v < k; v++) sum += x[v][i] * found[v][i];
    scores[item] = x[0][i] - found[0][i] / ((1 - sum) / penalty);
  });
  return scores;
}

// Items that no row rated come last, in an order that is drawn from the user's items.
function unsupportedLast(scores, rows) {
  const mask = (1n << 64n) - 1n;
  const scattered = (value) => {
    let x = value & mask;
    x = ((x ^ (x >> 30n)) * 0xBF58476D1CE4E5B9n) & mask;
    x = ((x ^ (x >> 27n)) * 0x94D049BB133111EBn) & mask;
    return x ^ (x >> 31n);
  };
  const supported = new Set(rows.flatMap((row) => row.items));
  const seed = rows[0].items.reduce((sum, item) => (sum + scattered(BigInt(item) + 1n)) & mask, 0n);
  const lowest = Math.min(0, ...[...supported].map((item) => scores[item]));
  return scores.map((score, item) => {
    if (supported.has(item)) return score;
    const drawn = Number(scattered(seed + BigInt(item + 1) * 0x9E3779B97F4A7C15n) >> 40n) / 2 ** 24;
    return lowest - Math.max(1, Math.abs(lowest)) * (1 + drawn);
  });
}

// The scores of every item, and the best of those that the user has not rated.
function answer(version, settings, rows, vectors, rated, length) {
  const tuned = version.manifest.model === "mf"
    ? factorized(version.parameters.item_embedding, rows, vectors, settings)
    : shallow(version.manifest.items, rows, settings.proximal_weight);
  const scores = settings.only_supported ? unsupportedLast(tuned, rows) : tuned;
  const own = new Set(rated), open = [...scores.keys()].filter((item) => !own.has(item));
  return { scores, list: open.sort((x, y) => scores[y] - scores[x] || x - y).slice(0, length) };
}

// Of test vectors: how many lists are the same, and how far a score is off at most.
function check(vectors) {
  let answers = 0, same = 0, largest = 0;
  for (const one of vectors.cases) for (const told of one.answers) {
    const found = answer(one, one.settings, told.rows, told.vectors, told.rated, told.list.length);
    answers += 1;
    same += +(found.list.join() === told.list.join());
    found.scores.forEach((score, item) => { largest = Math.max(largest, Math.abs(score - told.scores[item])); });
  }
  return { answers, same, largest };
}

if (typeof module !== "undefined") {
  module.exports = { answer, check };
  if (require.main === module) {
    const found = check(JSON.parse(require("node:fs").readFileSync(process.argv[2], "utf8")));
    console.log(JSON.stringify(found));
    process.exit(found.same >= 0.99 * found.answers ? 0 : 1);
  }
}
