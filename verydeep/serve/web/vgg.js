"use strict";
// The net, in a worker: pixels to maps of class scores. Maps lie row by row, pixel by pixel, channel by channel.
const STRIDE = 32, LONGEST = 8, BITS = 22; // of five pools; width to height of a photo; of Pillow's fixed-point filter
const half = (h) => (h >> 15 ? -1 : 1) * ((h >> 10) & 31
  ? (1 + (h & 1023) / 1024) * 2 ** (((h >> 10) & 31) - 15) : (h & 1023) * 2 ** -24);

// The layers with their weights, as floats. Stored are, layer by layer, biases, then weights as halves, or scales of
// outputs and weights as bytes; weights in the order in which `convolved` meets them, for four outputs at once.
function decoded({ layers, stored }, text) {
  const raw = atob(text), bytes = Uint8Array.from({ length: raw.length }, (_, i) => raw.charCodeAt(i));
  const view = new DataView(bytes.buffer), halves = Float32Array.from({ length: 1 << 16 }, (_, h) => half(h));
  let at = 0;
  const floats = (n) => Float32Array.from({ length: n }, () => view.getFloat32((at += 4) - 4, true));
  return layers.map((layer) => {
    if (!layer.kernel) return layer;
    const outputs = 4 * Math.ceil(layer.outputs / 4), each = 4 * layer.inputs * layer.kernel ** 2;
    const biases = floats(outputs), scales = stored === "int8" && floats(outputs);
    const weights = new Float32Array((outputs / 4) * each);
    for (let n = 0; n < weights.length; n++)
      if (scales) weights[n] = view.getInt8(at++) * scales[4 * Math.floor(n / each) + (n & 3)];
      else weights[n] = halves[view.getUint16((at += 2) - 2, true)];
    return { ...layer, weights, biases };
  });
}

// Four outputs at two places at a time: of six numbers eight products. Around the maps lie `by` zeros.
function convolved(x, { kernel, outputs, weights, biases }, by, rectified) {
  const height = x.height + 2 * by - kernel + 1, width = x.width + 2 * by - kernel + 1;
  const c = x.channels, run = kernel * c;
  const old = x.width * c, line = old + 2 * by * c, source = new Float32Array((x.height + 2 * by) * line);
  for (let y = 0; y < x.height; y++) source.set(x.data.subarray(y * old, (y + 1) * old), (y + by) * line + by * c);
  const data = new Float32Array(height * width * outputs), sums = new Float64Array(8);
  for (let o = 0; o < outputs; o += 4)
    for (let y = 0; y < height; y++)
      for (let px = 0; px < width; px += 2) {
        const next = px + 1 < width ? c : 0;
        let w = o * kernel * run, a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
        for (let ky = 0; ky < kernel; ky++)
          for (let at = (y + ky) * line + px * c, end = at + run; at < end; at++, w += 4) {
            const a = source[at], b = source[at + next];
            const w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2], w3 = weights[w + 3];
            a0 += a * w0; a1 += a * w1; a2 += a * w2; a3 += a * w3;
            b0 += b * w0; b1 += b * w1; b2 += b * w2; b3 += b * w3;
          }
        sums[0] = a0; sums[1] = a1; sums[2] = a2; sums[3] = a3; sums[4] = b0; sums[5] = b1; sums[6] = b2; sums[7] = b3;
        for (let i = 0; i < (next ? 8 : 4); i++) {
          const sum = sums[i] + biases[o + (i & 3)], to = (y * width + px + (i >> 2)) * outputs + o + (i & 3);
          if (o + (i & 3) < outputs) data[to] = rectified && sum < 0 ? 0 : sum;
        }
      }
  return { data, height, width, channels: outputs };
}

function pooled({ data, height, width, channels }, up) {
  const h = up ? Math.ceil(height / 2) : height >> 1, w = up ? Math.ceil(width / 2) : width >> 1;
  const out = new Float32Array(h * w * channels).fill(-Infinity);
  for (let y = 0; y < Math.min(height, 2 * h); y++)
    for (let x = 0; x < Math.min(width, 2 * w); x++)
      for (let c = 0, to = ((y >> 1) * w + (x >> 1)) * channels, at = (y * width + x) * channels; c < channels; c++)
        out[to + c] = Math.max(out[to + c], data[at + c]);
  return { data: out, height: h, width: w, channels };
}

// Local response normalisation, over channels (net A-LRN).
function normalised(x, { size, alpha, beta, k }) {
  const { channels } = x, data = x.data.map((value, at) => {
    const c = at % channels, from = at - Math.min(c, size >> 1), to = at + Math.min(channels - 1 - c, size >> 1);
    return value / (k + alpha * x.data.subarray(from, to + 1).reduce((sum, v) => sum + v * v, 0)) ** beta;
  });
  return { ...x, data };
}

// Scores of pixels: at crop size of one place, else a map. `each` is told of every layer's maps, after the ReLU.
function forward({ mean, std, pooling }, layers, { data, height, width }, each) {
  let x = { data: Float32Array.from(data, (v, i) => (v - mean[i % 3]) / std[i % 3]), height, width, channels: 3 };
  for (const layer of layers) {
    const by = layer.name.startsWith("conv") ? layer.kernel >> 1 : 0;
    x = layer.kernel ? convolved(x, layer, by, layer.name !== "fc8") : pooled(x, pooling === "up");
    if (layer.lrn) x = normalised(x, layer.lrn);
    each?.(layer.name, x);
  }
  return x;
}

// Python's round: a half goes to the even neighbour.
const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const scaledSize = ({ height: h, width: w }, side) => [h, w].map((old) => even((old * side) / Math.min(h, w)));

// Pillow's bilinear filter with antialiasing along a side, in whole numbers: where n places begin, and what they weigh.
function filterOf(size, from, to, n) {
  const scale = Math.fround(to - from) / n, reach = Math.max(scale, 1);
  return Array.from({ length: n }, (_, i) => {
    const centre = from + (i + 0.5) * scale, first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const length = Math.min(size, Math.trunc(centre + reach + 0.5)) - first, share = 1 / reach;
    const own = Array.from({ length }, (_, j) => Math.max(0, 1 - Math.abs((j + first - centre + 0.5) * share)));
    const total = own.reduce((a, b) => a + b, 0) || 1;
    return { first, weights: Int32Array.from(own, (w) => Math.trunc(0.5 + (w / total) * (1 << BITS))) };
  });
}

// One pass of it: places lie `step` apart, the lines they lie on `line`, in the old pixels and in the new.
function passed(data, filter, lines, [step, line], out, [outStep, outLine]) {
  filter.forEach(({ first, weights }, i) => {
    for (let l = 0; l < lines; l++)
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (BITS - 1), at = first * step + l * line + c;
        for (let j = 0; j < weights.length; j++, at += step) sum += data[at] * weights[j];
        out[i * outStep + l * outLine + c] = sum >> BITS;
      }
  });
}

// The photo with this smallest side, or a window of it there: the same bytes as those of data/photo.py. Of a window
// Pillow 13 rescales columns first where that makes far fewer of them; of a whole photo photo.py has lines first.
function rescaled(photo, side, top, left, rows, columns) {
  const [height, width] = scaledSize(photo, side), down = photo.height / height, across = photo.width / width;
  const right = Math.min((left + columns) * across, photo.width), bottom = Math.min((top + rows) * down, photo.height);
  const xs = filterOf(photo.width, Math.fround(left * across), Math.fround(right), columns), line = 3 * columns;
  const ys = filterOf(photo.height, Math.fround(top * down), Math.fround(bottom), rows), old = 3 * photo.width;
  const whole = rows === height && columns === width, fewer = photo.height - rows, data = new Uint8Array(rows * line);
  const columnsFirst = !whole && fewer > Math.max(0, 2 * (photo.width - columns));
  const between = new Uint8Array(columnsFirst ? rows * old : photo.height * line);
  if (columnsFirst) passed(photo.data, ys, photo.width, [old, 3], between, [old, 3]);
  else passed(photo.data, xs, photo.height, [3, old], between, [3, line]);
  if (columnsFirst) passed(between, xs, rows, [3, old], data, [3, line]);
  else passed(between, ys, columns, [line, 3], data, [line, 3]);
  return { data, height: rows, width: columns };
}

function cut({ data, width }, top, left, rows, columns, mirror) {
  const out = new Uint8Array(rows * columns * 3).map((_, i) => {
    const x = Math.floor(i / 3) % columns, from = (top + Math.floor(i / 3 / columns)) * width + left;
    return data[3 * (from + (mirror ? columns - 1 - x : x)) + (i % 3)];
  });
  return { data: out, height: rows, width: columns };
}

// What the net sees: a window of its own at `at`, a crop cut out of the whole at `from`, or the whole (of 8:1 at most).
function seen(state, { scale, at, from, mirror }) {
  const { photo, model: { crop } } = state, size = scaledSize(photo, scale), most = LONGEST * scale;
  const [rows, columns] = size.map((side) => Math.min(side, most)), own = at || (Math.max(...size) > most && from);
  if (own) return cut(rescaled(photo, scale, ...own, crop, crop), 0, 0, crop, crop, mirror);
  const corner = size.map((side) => Math.max(0, side - most) >> 1);
  if (state.scale !== scale) Object.assign(state, { scale, whole: rescaled(photo, scale, ...corner, rows, columns) });
  return from ? cut(state.whole, ...from, crop, crop, mirror) : cut(state.whole, 0, 0, rows, columns, mirror);
}

const state = {};
async function answered({ model, text, photo, see }) {
  Object.assign(state, model && { model, layers: decoded(model, text) }, photo && { photo, scale: 0 });
  if (!see || see.number !== state.photo.number) return {};
  const began = performance.now(), maps = {}, keep = see.maps && ((name, x) => { maps[name] = x; });
  const pixels = seen(state, see), map = see.net && forward(state.model, state.layers, pixels, keep);
  return { pixels, map, maps, milliseconds: performance.now() - began };
}
if (typeof document === "undefined")
  onmessage = async ({ data, ports: [port] }) =>
    port.postMessage(await answered(data).catch((error) => ({ error: String(error) })));
