"use strict";
// Controls: sliders, canvases to point at, photos from files and the camera, and the two languages.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PRESETS = [0, 256, 384, 512], sliders = [...document.querySelectorAll("[data-set]")];
const button = (own, ...inside) => element("button", { type: "button", ...own }, ...inside);

function set(values, name) {
  Object.assign(settings, values);
  if (settings.least > settings.most) settings["least" in values ? "most" : "least"] = values.least ?? values.most;
  for (const slider of sliders) {
    slider.value = settings[slider.dataset.set];
    slider.parentElement.querySelector("output")?.replaceChildren(slider.value);
  }
  return name && change([name]);
}

// A place on a canvas, pointed at or, by arrow keys, one cell further.
function pointing(id, size, draw, drags) {
  const canvas = $(id), to = (x, y) => draw(pointed[id] = [within(x, canvas.width - 1), within(y, canvas.height - 1)]);
  canvas.onpointermove = canvas.onpointerdown = ({ offsetX, offsetY, buttons }) => {
    const k = canvas.width / canvas.clientWidth;
    if (!drags || buttons) to(offsetX * k, offsetY * k);
  };
  canvas.onkeydown = (event) => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    const [across, down] = ARROWS[event.key], [x, y] = pointed[id] || [size() / 2, size() / 2];
    to(x + across * size(), y + down * size());
  };
}
pointing("places-photo", () => found.step, drawPlaces);
pointing("maps", () => found.cell, drawLayer);
pointing("training-photo", () => 8, ([px, py]) => {
  const { k, left, top } = found.training, [h, w] = scaledSize(photo, settings.S);
  const part = (at, side) => (side > crop ? within((at / k - crop / 2) / (side - crop), 1) : 0.5);
  set({ x: part(px - left, w), y: part(py - top, h) }, "training");
}, true);

for (const slider of sliders) {
  if (slider.max !== "1") Object.assign(slider, { min: crop, max: largest });
  slider.oninput = () => set({ [slider.dataset.set]: Number(slider.value) }, slider.dataset.step);
}
const drawn = () => ({ draws: Array.from({ length: 50 }, () => Array.from({ length: 4 }, Math.random)) });
$("random").onclick = () => set({ x: Math.random(), y: Math.random() }, "training");
$("again").onclick = () => set(drawn(), "jitter");
$("fixed").onclick = () => set({ least: model.scales[0], most: model.scales[0] }, "jitter");
$("jittered").onclick = () => set({ least, most }, "jitter");
const toS = (p) => paper(p) || model.scales[0];
$("presets").append(...PRESETS.map((p) => button({ onclick: () => set({ S: toS(p) }, "training") })));
$("label").append(...classes.map((name, value) => element("option", { value, textContent: name })));
$("label").onchange = () => drawPlaces(label = Number($("label").value));
for (let n = 0; n < 50; n++) $("draws").append(element("div", {}, element("canvas"), element("span")));
for (const { name: value } of model.layers) {
  const onclick = () => drawLayers(layer = value, delete pointed.maps);
  $("layers").append(button({ value, onclick }, element("canvas"), value));
}

const first = ([file]) => file && open(file, file.name);
$("file").onchange = () => first($("file").files);
document.onpaste = ({ clipboardData }) => first(clipboardData.files);
document.ondragover = document.ondragleave = document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") first(event.dataTransfer.files);
};
for (const { name: alt, bmp } of model.examples) {
  const photo = new Blob([Uint8Array.from(atob(bmp), (c) => c.charCodeAt(0))], { type: "image/bmp" });
  const picture = element("img", { src: `data:image/bmp;base64,${bmp}`, alt });
  $("examples").append(button({ onclick: () => open(photo, alt) }, picture));
}

function filming(now = null) {
  stream?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = stream = now;
  $("video").hidden = $("take").hidden = !now;
  write("camera", now ? "stop" : "camera");
}
const camera = async () => navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
$("camera").onclick = () => (stream ? filming() : camera().then(filming, () => tell("no_camera", {}, true)));
$("take").onclick = () => {
  const { videoWidth: width, videoHeight: height } = $("video"), canvas = element("canvas", { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  filming();
  canvas.toBlob((blob) => open(blob, say("camera")));
};

function speak() {
  const { name, sha256, licence, scales: [s] } = model, sha = sha256.slice(0, 12);
  document.documentElement.lang = ["en", "zh-Hans"][language];
  document.title = `${say("title")} · ${name}`;
  for (const it of document.querySelectorAll("[data-word]")) it.textContent = say(it.dataset.word, { s, least, most });
  for (const it of document.querySelectorAll("[data-label]")) it.setAttribute("aria-label", say(it.dataset.label));
  PRESETS.forEach((p, n) => $("presets").children[n].replaceChildren(say(p ? "as_paper" : "own_S", { s: toS(p), p })));
  write("about", "about", { ...model, sha, licence: licence || words.unknown[language] });
  return change();
}
$("language").onclick = () => speak(language = 1 - language);
set(drawn());
send({ model, text: $("weights").textContent });
speak();
$("examples").firstChild?.click();
