"use strict";
// Words and pictures of the page: photos with squares on them, pixels, maps, and answers with bars.
const $ = (id) => document.getElementById(id);
const model = JSON.parse($("model").textContent), words = JSON.parse($("words").textContent);
const testScale = (model.scales[0] + model.scales[1]) >> 1;
let language = /^zh\b/i.test(navigator.language) ? 1 : 0;

function say(key, facts) {
  const { crop, classes: { length: n } } = model, origin = model.origin || words.unknown[language];
  const all = { crop, n, q: testScale, origin, ...facts };
  return words[key][language].replace(/\{(\w+)\}/g, (_, name) => all[name]);
}

const percent = (part) => `${(100 * part).toFixed(part < 0.0995 ? 1 : 0)} %`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
const within = (value, most) => Math.max(0, Math.min(most, value));
const penOn = (canvas, width, height) => Object.assign(canvas, { width, height }).getContext("2d");

const element = (tag, own = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), own);
  return made.append(...inside), made;
};

function drawPixels(canvas, { data, width, height }) {
  const image = new ImageData(width, height);
  image.data.fill(255).forEach((_, i, four) => { if (i % 4 < 3) four[i] = data[3 * (i >> 2) + (i % 4)]; });
  penOn(canvas, width, height).putImageData(image, 0, 0);
}

// The photo at a scale, in a room that holds it at the largest: so it grows, and squares [x0, y0, x1, y1] of its pixels
// do not. With `veiled` what is outside the first of them is. Returns what draws more on it.
function drawPhoto(id, scale, largest, squares = [], veiled = false) {
  const [[roomHeight, roomWidth], [height, width]] = [largest, scale].map((side) => scaledSize(photo, side));
  const k = Math.min(720 / roomWidth, 600 / roomHeight), small = element("canvas", { width, height });
  const pen = penOn($(id), Math.ceil(roomWidth * k), Math.ceil(roomHeight * k));
  const left = ($(id).width - width * k) / 2, top = ($(id).height - height * k) / 2;
  const there = ([x0, y0, x1, y1]) => [left + x0 * k, top + y0 * k, (x1 - x0) * k, (y1 - y0) * k];
  small.getContext("2d").drawImage(photo.canvas, 0, 0, width, height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, left, top, width * k, height * k);
  Object.assign(pen, { globalAlpha: veiled ? 0.6 : 0, fillStyle: colour("ground") });
  for (const part of [[0, 0, width, height], ...squares.slice(0, 1)]) pen.rect(...there(part));
  pen.fill("evenodd");
  pen.globalAlpha = 1;
  const frame = (square, name, line) => {
    const [x, y, w, h] = there(square), by = line / 2 + 2, inner = [w, h].map((side) => Math.max(2, side - 2 * by));
    for (const [strokeStyle, lineWidth] of [[colour("ground"), line + 4], [colour(name), line]])
      Object.assign(pen, { strokeStyle, lineWidth }).strokeRect(x + by, y + by, ...inner);
  };
  squares.forEach((square) => frame(square, "accent", squares.length > 1 ? 3 : 5));
  return { pen, k, left, top, there, frame };
}

// The values of a class over the photo: a square of one stride in the middle of each window.
function drawHeat({ pen, there, k }, values, columns, [top, left]) {
  Object.assign(pen, { font: "600 26px system-ui, sans-serif", textAlign: "center", lineWidth: 6, lineJoin: "round" });
  values.forEach((value, n) => {
    const x = left + STRIDE * (n % columns), y = top + STRIDE * Math.floor(n / columns), { width, height } = pen.canvas;
    const [x0, y0, side] = there([x, y, x + STRIDE, y + STRIDE]);
    Object.assign(pen, { globalAlpha: 0.15 + 0.6 * value, fillStyle: colour("accent") });
    pen.fillRect(x0 + 1, y0 + 1, side - 2, side - 2);
    Object.assign(pen, { globalAlpha: 1, strokeStyle: colour("ground"), fillStyle: colour("ink") });
    const at = [(x0 + Math.min(x0 + side, width)) / 2, (y0 + Math.min(y0 + side, height)) / 2 + 9];
    if (Math.min(side, width - x0) > 70) for (const how of ["strokeText", "fillText"]) pen[how](percent(value), ...at);
  });
}

// Maps in grey, each from 0 to its own most; where they have one place, from the least of all to the most.
function drawMaps(canvas, { data, height, width, channels }, shown = [...Array(channels).keys()]) {
  const columns = Math.min(shown.length, Math.ceil(Math.sqrt((2.2 * shown.length * height) / width)));
  const cell = Math.max(1, Math.floor(16 / Math.max(width, height))), flat = height * width === 1;
  const down = height * cell + 2, across = width * cell + 2;
  const pen = penOn(canvas, columns * across, Math.ceil(shown.length / columns) * down);
  shown.forEach((c, n) => {
    const low = flat ? Math.min(...data) : 0, image = new ImageData(width * cell, height * cell);
    let most = low;
    for (let at = flat ? 0 : c; at < data.length; at += flat ? 1 : channels) most = Math.max(most, data[at]);
    for (let i = 0; i < image.data.length; i += 4) {
      const x = Math.floor(((i / 4) % image.width) / cell), y = Math.floor(i / 4 / image.width / cell);
      const grey = 24 + (231 * Math.max(0, data[(y * width + x) * channels + c] - low)) / (most - low || 1);
      image.data.set([grey, grey, grey, 255], i);
    }
    pen.putImageData(image, (n % columns) * across, Math.floor(n / columns) * down);
  });
  return { pen, columns, cell, across, down };
}

const rowsOf = ({ data, height: h, width: w, channels: n }) =>
  Array.from({ length: h * w }, (_, at) => data.subarray(at * n, at * n + n));
const mean = (rows) => Array.from(rows[0], (_, k) => rows.reduce((sum, row) => sum + row[k], 0) / rows.length);
const averageOf = (map) => mean(rowsOf(map));
const bestOf = (values) => values.indexOf(Math.max(...values));

function softmax(scores) {
  const most = Math.max(...scores), powers = Array.from(scores, (score) => Math.exp(score - most));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}

function drawAnswer(id, posteriors, most) {
  const order = [...posteriors.keys()].sort((a, b) => posteriors[b] - posteriors[a]).slice(0, most);
  $(id).replaceChildren(...order.map((label) => {
    const title = model.classes[label], bar = element("i"), value = percent(posteriors[label]);
    bar.style.width = `${100 * posteriors[label]}%`;
    return element("li", {}, element("span", { title }, title), bar, element("span", { className: "n" }, value));
  }));
}
