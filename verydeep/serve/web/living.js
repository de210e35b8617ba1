"use strict";
// The page: one photo, and for every step what is asked of the net and shown when the answer comes.
const { crop, classes } = model, paper = (side) => Math.round((crop * side) / 224);
const [least, most] = [256, 512].map(paper), largest = Math.max(most, model.scales[1]);
const settings = { S: model.scales[0], x: 0.5, y: 0.5, least, most, Q: testScale };
const found = {}, busy = {}, again = {}, pointed = {};
const worker = new Worker(URL.createObjectURL(new Blob([$("vgg").textContent], { type: "text/javascript" })));
let photo, stream, label = -1, layer = model.layers[0].name;

const send = (message) => new Promise((resolve, reject) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
  worker.postMessage(message, [port2]);
});
const see = (how) => send({ see: { number: photo.number, net: true, ...how } });
const write = (id, key, facts) => { $(id).textContent = say(key, facts); };
const tell = (key, facts, wrong = false) => $("said").classList.toggle("wrong", wrong, write("said", key, facts));

// The pixels of a file: upright, in sRGB where the contract converts profiles too, on the contract's background.
async function opened(blob) {
  const { colour_profiles: profiles, background: behind } = model.reading;
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: profiles === "ignore" ? "none" : "default" });
  const { width, height } = bitmap, canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = Array.isArray(behind) ? `rgb(${behind})` : behind;
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  const four = pen.getImageData(0, 0, width, height).data, data = new Uint8Array(width * height * 3);
  for (let i = 0, at = 0; i < data.length; i++, at += i % 3 ? 1 : 2) data[i] = four[at];
  return { canvas, width, height, data };
}

async function open(blob, name) {
  const next = await opened(blob).catch(() => tell("no_photo", { name }, true));
  if (!next.data) return null;
  photo = { ...next, number: (photo?.number || 0) + 1 };
  send({ photo: { ...photo, canvas: null } });
  $("steps").hidden = false;
  for (const one of $("examples").children) one.setAttribute("aria-pressed", one.firstChild.alt === name);
  label = -1;
  tell("shown", { w: photo.width, h: photo.height });
  return change();
}

const area = (scale) => crop ** 2 / scaledSize(photo, scale).reduce((a, b) => a * b);
const place = (scale, y, x) => scaledSize(photo, scale).map((side, n) => Math.floor([y, x][n] * (side - crop) + 0.49));
const middle = (scale) => scaledSize(photo, scale).map((side) => (side - crop) >> 1);
const windowOf = ([top, left]) => [left, top, left + crop, top + crop];
const line = (space) => [0, even(space / 4), space >> 1, space - even(space / 4), space];
const grid = ([height, width]) => line(height - crop).flatMap((top) => line(width - crop).map((left) => [top, left]));
const drawCrop = (id, scale, room, corner) => drawPhoto(id, scale, room, [windowOf(corner)], true);

async function answerFor(name, many, scale, at, maps) {
  const answer = await see({ scale, at, maps });
  drawPixels($(`${name}-pixels`), answer.pixels);
  drawAnswer(`${name}-list`, softmax(averageOf(answer.map)), many);
  return answer;
}

// Each step: what is drawn without the net, then what it is asked; that stops where the step was asked for again.
const steps = {
  answer: [() => drawCrop("answer-photo", testScale, testScale, middle(testScale)), async () => {
    Object.assign(found, await answerFor("answer", 5, testScale, middle(testScale), true));
    write("answer-said", "time", { ms: Math.ceil(found.milliseconds) });
    drawLayers();
  }],
  training: [() => {
    const { S: s, x, y } = settings, [h, w] = scaledSize(photo, s), part = percent(area(s));
    found.training = drawCrop("training-photo", s, largest, place(s, y, x));
    const seen = say(area(s) > 0.6 ? "much" : area(s) > 0.25 ? "some" : "little");
    write("training-said", "covers", { s, w, h, part, seen });
  }, () => answerFor("training", 3, settings.S, place(settings.S, settings.y, settings.x))],
  jitter: [() => {
    const { least: a, most: b } = settings, facts = { a, b, low: percent(area(b)), high: percent(area(a)) };
    write("jitter-said", a === b ? "drawn_one" : "drawn", facts);
  }, async (stop) => {
    for (const [n, [size, y, x, turn]] of settings.draws.entries()) {
      const scale = settings.least + Math.floor(size * (settings.most - settings.least + 1));
      const { pixels } = await see({ scale, at: place(scale, y, x), mirror: turn < 0.5, net: false });
      if (stop()) return;
      drawPixels($("draws").children[n].firstChild, pixels);
      $("draws").children[n].lastChild.textContent = scale;
    }
  }],
  test: [() => {
    const { Q: q } = settings, size = scaledSize(photo, q), times = (q / testScale).toFixed(2);
    drawCrop("centre-photo", q, largest, middle(q));
    drawPhoto("dense-photo", q, largest, [[0, 0, size[1], size[0]]]);
    drawPhoto("crops-photo", q, largest, grid(size).map(windowOf));
    write("test-said", q === testScale ? "sizes_same" : "sizes_differ", { q, s: testScale, times });
  }, async (stop) => {
    const scale = settings.Q, both = (from) => [{ from }, { from, mirror: true }], size = scaledSize(photo, scale);
    const all = { centre: [{ at: middle(scale) }], dense: both(), crops: grid(size).flatMap(both) };
    for (const [way, views] of Object.entries(all)) {
      const answers = [];
      for (const view of views) {
        const { map } = await see({ scale, ...view });
        if (stop()) return;
        if (way === "dense" && !view.mirror) drawPlaces(Object.assign(found, { places: map, scale }));
        const facts = { h: map.height, w: map.width, done: answers.push(softmax(averageOf(map))), all: views.length };
        write(`${way}-said`, answers.length < views.length ? "going_on" : `${way}_text`, facts);
      }
      drawAnswer(`${way}-list`, mean(answers), 3);
    }
  }],
};

async function step(name) {
  const [now, later] = steps[name];
  now(again[name] = true);
  if (busy[name]) return;
  for (busy[name] = true; again[name];) {
    again[name] = false;
    await later(() => again[name]).catch(({ message }) => again[name] || tell("failed", { message }, true));
  }
  busy[name] = false;
}
const change = (names = Object.keys(steps)) => photo && Promise.all(names.map(step));

// The class map over the photo, and the window of the place that is pointed at: a stride from its neighbour's.
function drawPlaces() {
  const { places, scale } = found, { height, width } = places, answers = rowsOf(places).map(softmax);
  const average = softmax(averageOf(places)), shown = label < 0 ? bestOf(average) : label, by = (crop - STRIDE) / 2;
  const corner = scaledSize(photo, scale).map((side) => Math.max(0, side - LONGEST * scale) >> 1);
  const stage = drawPhoto("places-photo", scale, scale), [x, y] = pointed["places-photo"] || [];
  drawHeat(stage, answers.map((row) => row[shown]), width, corner.map((at) => at + by));
  drawAnswer("places-list", average, 3);
  $("label").value = shown;
  found.step = STRIDE * stage.k;
  if (x === undefined) return write("places-said", "point");
  const cell = (at, from, n, all) => within(Math.floor(((at - from) / stage.k - corner[n] - by) / STRIDE), all - 1);
  const i = cell(y, stage.top, 0, height), j = cell(x, stage.left, 1, width), row = answers[i * width + j];
  stage.frame(windowOf([corner[0] + STRIDE * i, corner[1] + STRIDE * j]), "warm", 6);
  const facts = { i: i + 1, j: j + 1, name: classes[shown], part: percent(row[shown]), best: classes[bestOf(row)] };
  return write("places-said", "place", facts);
}

function drawLayers() {
  for (const button of $("layers").children) {
    const x = found.maps[button.value];
    drawMaps(button.firstChild, x, x.height > 1 ? [bestOf(averageOf(x))] : undefined);
    button.setAttribute("aria-pressed", button.value === layer);
  }
  drawLayer();
}

// What a cell of a layer sees, [x0, y0, x1, y1] in the net's square: `start` is where the first cell's field begins.
function fieldOf(name, i, j) {
  let stride = 1, start = 0;
  const upTo = model.layers.slice(0, model.layers.findIndex((one) => one.name === name) + 1), { sees } = upTo.at(-1);
  for (const { name: own, kernel } of upTo)
    if (own.startsWith("conv")) start -= (kernel >> 1) * stride;
    else if (!kernel) stride *= 2;
  return [j, i, j, i].map((at, n) => within(start + at * stride + (n > 1 ? sees : 0), crop));
}

// The maps of a layer, and the cell that is pointed at with what it sees of the photo.
function drawLayer() {
  const x = found.maps[layer], { pen, columns, cell, across, down } = drawMaps($("maps"), x);
  const [px, py] = pointed.maps || [], [top, left] = middle(testScale);
  const { frame } = drawPhoto("field", testScale, testScale, [windowOf([top, left])]);
  const { sees } = model.layers.find(({ name }) => name === layer), facts = { name: layer, sees };
  found.cell = cell;
  if (px === undefined) return write("maps-said", "layer", { ...facts, c: x.channels, h: x.height, w: x.width });
  const column = within(Math.floor(px / across), columns - 1), row = Math.floor(py / down);
  const [i, j] = [[py - row * down, x.height], [px - column * across, x.width]]
    .map(([at, side]) => within(Math.floor(at / cell), side - 1));
  const c = within(row * columns + column, x.channels - 1), value = x.data[(i * x.width + j) * x.channels + c];
  const corner = [(c % columns) * across + j * cell - 1, Math.floor(c / columns) * down + i * cell - 1];
  Object.assign(pen, { strokeStyle: colour("warm"), lineWidth: 2 }).strokeRect(...corner, cell + 2, cell + 2);
  frame(fieldOf(layer, i, j).map((at, n) => at + (n % 2 ? top : left)), "warm", 6);
  return write("maps-said", "cell", { ...facts, c: c + 1, i: i + 1, j: j + 1, value: value.toFixed(2) });
}
