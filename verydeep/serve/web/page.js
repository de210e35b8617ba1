"use strict";
// The page of `verydeep serve`: photos in, answers out, by the routes that /v1/model lists.

const at = id => document.getElementById(id), WORDS = JSON.parse(at("words").textContent);
const TRIES = 4, LONGEST_WAIT = 30, LARGE = 16e6;  // seconds; bytes of a photo that may be why a connection broke
const items = [];  // of each photo what is known of it
let language = "en", model, token = "", asked = null, protocol = "centre", current, stream, queue;
class Wrong extends Error {}  // its message is for people
const word = (key, values) => WORDS[key][Number(language === "zh")].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const share = p => p.toLocaleString(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const area = ([x, y, x1, y1]) => ({ x, y, width: x1 - x, height: y1 - y });
const lists = route => Boolean(model?.routes.includes(route));

function make(tag, values = {}, ...inside) {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...inside);
  return node;
}
function draw(tag, values, ...inside) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
  node.append(...inside);
  at("marks").append(node);
  return node;
}
function say(text, wrong = false) {
  if (at("said").textContent !== text) at("said").textContent = text;  // or it would be read out again
  at("said").classList.toggle("wrong", wrong);
}

function askToken(known) {
  asked ??= new Promise(resolve => {
    say(word(known ? "refused" : "needs"), known);
    at("ask").hidden = false;
    at("token").focus();
    at("ask").onsubmit = event => {
      event.preventDefault();
      [token, at("token").value, at("ask").hidden, asked] = [at("token").value.trim(), "", true, null];
      resolve(say(""));
    };
  });
  return asked;
}
async function ask(route, body, told = say) {
  for (let tried = 1; ;) {
    const used = token, headers = body ? { "content-type": "application/octet-stream" } : {};
    if (used) headers.authorization = `Bearer ${used}`;
    const answer = await fetch(route, { method: body ? "POST" : "GET", body, headers }).catch(() => {
      throw new Wrong(word(body?.size > LARGE ? "big" : "gone"));
    });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    if (answer.status === 401) {
      if (used === token) await askToken(used !== "");
    } else if (answer.status === 429 || answer.status === 503) {
      if (tried === TRIES) throw new Wrong(word("still"));
      const s = Math.min(LONGEST_WAIT, Math.max(1, Number(answer.headers.get("retry-after")) || 1));
      told(word("busy", { s, i: tried++, n: TRIES - 1 }));
      await new Promise(resolve => setTimeout(resolve, 1000 * s));
    } else {
      const key = answer.status in WORDS ? answer.status : "other";
      throw new Wrong([word(key, { status: answer.status }), found.error?.message ?? ""].join(" "));
    }
  }
}

async function work(item, state, what) {  // what goes wrong is said where the photo is shown
  const told = text => show(Object.assign(item, { state: text }));
  item.wrong = "";
  told(state);
  await what(told).catch(e => {
    if (!(e instanceof Wrong)) throw e;
    item.wrong = e.message;
  });
  told("");
}

const classify = item => work(item, word("asking"), async told => {
  if (!model) await begin();
  const began = performance.now(), by = protocol;
  const found = await ask(`/v1/classify?top=5&protocol=${by}`, item.file, told);
  Object.assign(item, { found, by, trip: performance.now() - began });
  if (lists("/v1/localise")) item.places ??= (await ask("/v1/localise?top=1", item.file, told)).places;
});
const explain = (item, name) => work(item, word("looking", { name }), async told => {
  const route = `/v1/explain?class=${encodeURIComponent(name)}`;
  if (!item.maps.has(name)) item.maps.set(name, await ask(route, item.file, told));
  item.why = name;
});
function classifyLater(item) {
  item.waits = true;
  queue = queue.then(() => classify(Object.assign(item, { waits: false })));
  show(item);
}
function choose(item) {
  current = item;
  item.found && item.by !== protocol && !item.waits ? classifyLater(item) : show(item);
}

function add(files) {
  if (!files?.length) return say(word("noFile"), true);
  stopCamera();
  const fresh = [...files].map(file => ({ file, url: URL.createObjectURL(file), maps: new Map(), name: make("span") }));
  items.push(...fresh);
  for (const item of fresh) {
    const image = make("img", { src: item.url, alt: "" });
    image.onerror = () => { item.unseen = image.hidden = true; show(item); };
    item.thumb = make("button", { type: "button", onclick: () => choose(item) }, image, item.name);
    at("strip").append(make("li", {}, item.thumb));
  }
  current = fresh[0];
  fresh.forEach(classifyLater);
}

function show(item) {
  const best = item.found?.classes[0], n = items.filter(one => one.waits || one.state).indexOf(item);
  const result = best && word("result", { name: best.name, share: share(best.probability) });
  const said = item.wrong || item.state || (item.waits ? word("waits", { n }) : result ?? "");
  item.name.textContent = best?.name ?? (item.wrong ? "–" : "…");
  item.thumb.setAttribute("aria-label", `${word("photo")} ${items.indexOf(item) + 1}: ${said}`);
  if (item !== current) return;
  for (const one of items) one.thumb.setAttribute("aria-pressed", one === item);
  say(said, Boolean(item.wrong));
  if (stream) return;
  if (at("photo").src !== item.url) at("photo").src = item.url;
  at("photo").alt = best?.name ?? word("photo");
  [at("empty").hidden, at("unseen").hidden, at("photo").hidden] = [true, !item.unseen, Boolean(item.unseen)];
  showAnswers(item);
  showMarks(item);
}

function showAnswers(item) {
  const found = item?.found?.classes ?? [], free = Boolean(item) && !item.waits && !item.state;
  const focused = [...at("answers").querySelectorAll("button")].indexOf(document.activeElement);
  const rows = Array.from({ length: Math.min(5, model?.classes.length ?? 5) }, (_, i) => {
    if (!found[i]) return make("li");
    const { name, probability } = found[i], bar = make("i"), onclick = () => free && explain(item, name);
    const one = lists("/v1/explain")
      ? make("button", { type: "button", ariaPressed: item.why === name, onclick }) : make("span");
    Object.assign(one, { textContent: name, title: name });
    bar.style.width = `${100 * probability}%`;
    return make("li", {}, one, make("div", {}, bar), make("span", { className: "n", textContent: share(probability) }));
  });
  at("answers").replaceChildren(...rows);
  at("answers").querySelectorAll("button")[focused]?.focus();
  const took = { ...item?.found?.milliseconds, trip: item?.trip };
  for (const name in took) took[name] = took[name]?.toFixed(took[name] < 10 ? 1 : 0);
  at("times").textContent = item?.found ? word("times", took) : "";
  [at("again").disabled, at("explain").disabled, at("strength").disabled] = [!free, !free || !found.length, !item?.why];
  at("explain").setAttribute("aria-pressed", Boolean(item?.why));
}
function showMarks({ found, places = [], maps, why, unseen }) {
  const image = at("photo"), map = maps.get(why);
  at("marks").replaceChildren(at("legend").textContent = "");
  const { width, height } = found?.photo ?? {}, other = image.naturalWidth / image.naturalHeight / (width / height);
  const turned = !unseen && image.complete && Math.abs(Math.log(other)) > 0.05;  // otherwise than the server turned it
  if (!found || turned) return;
  const said = [word("seen"), ...(places.length ? [word("box")] : []), ...(map ? [word("map", { name: why })] : [])];
  at("legend").textContent = said.join(" ");
  at("marks").setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (map) {
    draw("mask", { id: "bright" }, draw("image", { ...area(map.window), href: map.map, preserveAspectRatio: "none" }));
    draw("rect", { ...area(map.window), class: "map", mask: "url(#bright)", opacity: at("strength").value / 100 });
  }
  for (const [kind, box] of [["seen", found.window], ...places.map(place => ["box", place.box])])
    for (const under of ["under ", ""]) draw("rect", { ...area(box), class: under + kind });
  for (const { name, probability, box: [x, y, x1] } of places) {
    const size = Math.max(width, height) / 26, from = x < width / 2 ? [x + size / 3, "start"] : [x1 - size / 3, "end"];
    const place = { x: from[0], y: Math.max(y, 0) + 1.2 * size, "font-size": size, "text-anchor": from[1] };
    draw("text", place, `${name} ${share(probability)}`);
  }
}

function showModel() {
  const { net, origin, licence, sha256, engine, precision, versions, classes } = model;
  at("model").textContent = word("model", { net, n: classes.length });
  const facts = {
    net, input: word("crops", model), origin, licence: licence || word("unsaid"), sha256,
    engine: `${engine}, ${precision}`, versions: Object.entries(versions).map(pair => pair.join(" ")).join(", "),
    classes: classes.join(" · "),
  };
  at("facts").replaceChildren(...Object.entries(facts).flatMap(([name, text]) =>
    [make("dt", { textContent: word(name) }), make("dd", { textContent: text })]));
}

async function openCamera() {
  if (!navigator.mediaDevices) return say(word("insecure"), true);
  const video = { facingMode: "environment", width: { ideal: 1920 } };
  stream = await navigator.mediaDevices.getUserMedia({ video }).catch(e =>
    say(word(e.name === "NotAllowedError" ? "denied" : "noCamera"), true));
  if (!stream) return;
  document.body.classList.add("filming");
  at("video").srcObject = stream;
  await at("video").play();
  at("take").focus();
}
function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  document.body.classList.remove("filming");
  if (stream) at("camera").focus();
  stream = at("video").srcObject = null;
  if (current) show(current);
}
function takePhoto() {
  const canvas = make("canvas", { width: at("video").videoWidth, height: at("video").videoHeight });
  canvas.getContext("2d").drawImage(at("video"), 0, 0);
  canvas.toBlob(photo => add([photo]), "image/jpeg", 0.95);
}

function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = { en: "en", zh: "zh-CN" }[language];
  document.title = `${word("title")} · verydeep`;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.ariaLabel = word(node.dataset.label);
  [at("language").textContent, at("language").lang] = language === "zh" ? ["English", "en"] : ["中文", "zh"];
  if (model) showModel();
  current ? items.forEach(show) : showAnswers();
}
function setProtocol(chosen) {
  protocol = chosen;
  for (const name of ["centre", "dense"]) at(name).setAttribute("aria-pressed", name === protocol);
  if (current) choose(current);
}
async function begin() {
  model = await ask("/v1/model").catch(e => say(e.message, true));
  at("why").hidden = !lists("/v1/explain");
  setLanguage(language);
}

setLanguage(navigator.language.startsWith("zh") ? "zh" : "en");
at("language").onclick = () => setLanguage(at("language").lang);
at("theme").onchange = event => { document.documentElement.dataset.theme = event.target.value; };
for (const name of ["centre", "dense"]) at(name).onclick = () => setProtocol(name);
at("choose").onclick = () => at("file").click();
at("file").onchange = event => { if (event.target.files.length) add(event.target.files); event.target.value = ""; };
[at("camera").onclick, at("take").onclick, at("cancel").onclick] = [openCamera, takePhoto, stopCamera];
at("again").onclick = () => classifyLater(current);
at("explain").onclick = () => current.why ? show(Object.assign(current, { why: null }))
  : explain(current, current.found.classes[0].name);
at("strength").oninput = at("photo").onload = () => showMarks(current);
document.onpaste = event => { if (event.clipboardData.files.length) add(event.clipboardData.files); };
document.ondragover = event => { event.preventDefault(); at("stage").classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) at("stage").classList.remove("over"); };
document.ondrop = event => {
  event.preventDefault();
  at("stage").classList.remove("over");
  add(event.dataTransfer.files);
};
queue = begin();
