"""The nets of the paper once more, in numpy and fp64: shifted sums, padded windows, and a backward pass by hand."""

import numpy as np

# Written from the paper's Table 1, not from verydeep.paper: kernel-channels; L is LRN, P is max-pool.
TABLE = {
    "A": "3-64 P 3-128 P 3-256 3-256 P 3-512 3-512 P 3-512 3-512 P",
    "A-LRN": "3-64 L P 3-128 P 3-256 3-256 P 3-512 3-512 P 3-512 3-512 P",
    "B": "3-64 3-64 P 3-128 3-128 P 3-256 3-256 P 3-512 3-512 P 3-512 3-512 P",
    "C": "3-64 3-64 P 3-128 3-128 P 3-256 3-256 1-256 P 3-512 3-512 1-512 P 3-512 3-512 1-512 P",
    "D": "3-64 3-64 P 3-128 3-128 P 3-256 3-256 3-256 P 3-512 3-512 3-512 P 3-512 3-512 3-512 P",
    "E": "3-64 3-64 P 3-128 3-128 P 3-256 3-256 3-256 3-256 P 3-512 3-512 3-512 3-512 P 3-512 3-512 3-512 3-512 P",
    "shallow-B": "5-64 P 5-128 P 5-256 P 5-512 P 5-512 P",
}


def names(net):
    """Names of the convolutions of a net, and of the operations between them."""
    block, place, found = 1, 1, []
    for word in TABLE[net].split():
        if word == "P":
            found.append(("pool", block))
            block, place = block + 1, 1
        elif word == "L":
            found.append(("lrn", block))
        else:
            found.append((f"conv{block}_{place}", int(word.split("-")[0])))
            place += 1
    return found


def convolution(x, w, b):
    k, (h, width) = w.shape[2], x.shape[2:]
    pad = k // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y = np.zeros((len(x), len(w), h, width)) + b[None, :, None, None]
    for i in range(k):
        for j in range(k):
            y += np.einsum("nchw,kc->nkhw", padded[:, :, i : i + h, j : j + width], w[:, :, i, j], optimize=True)

    def back(g):
        to_padded, to_w = np.zeros_like(padded), np.zeros_like(w)
        for i in range(k):
            for j in range(k):
                to_padded[:, :, i : i + h, j : j + width] += np.einsum("nkhw,kc->nchw", g, w[:, :, i, j], optimize=True)
                to_w[:, :, i, j] = np.einsum("nkhw,nchw->kc", g, padded[:, :, i : i + h, j : j + width], optimize=True)
        return to_padded[:, :, pad : pad + h, pad : pad + width], to_w, g.sum((0, 2, 3))

    return y, back


def max_pool(x, up):
    n, c, h, w = x.shape
    rows, columns = ((h + 1) // 2, (w + 1) // 2) if up else (h // 2, w // 2)
    wide = np.full((n, c, 2 * rows, 2 * columns), -np.inf)
    wide[:, :, : min(h, 2 * rows), : min(w, 2 * columns)] = x[:, :, : 2 * rows, : 2 * columns]
    windows = wide.reshape(n, c, rows, 2, columns, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows, columns, 4)
    chosen = windows.argmax(-1)

    def back(g):
        spread = (np.arange(4) == chosen[..., None]) * g[..., None]
        spread = (
            spread.reshape(n, c, rows, columns, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * rows, 2 * columns)
        )
        to_x = np.zeros_like(x)
        to_x[:, :, : 2 * rows, : 2 * columns] = spread[:, :, :h, :w]
        return to_x

    return windows.max(-1), back


def over_neighbours(x):
    """Sums over the five channels around each, fewer at the ends."""
    c = x.shape[1]
    return np.stack([x[:, max(0, i - 2) : min(c, i + 3)].sum(1) for i in range(c)], 1)


def lrn(x):
    s = 2.0 + 1e-4 * over_neighbours(x**2)

    def back(g):
        return g * s**-0.75 - 2 * 1e-4 * 0.75 * x * over_neighbours(g * x * s**-1.75)

    return x * s**-0.75, back


def batch_norm(x, p, name):
    column = lambda key: p[f"{name}.{key}"][None, :, None, None]  # noqa: E731
    scale = 1 / np.sqrt(column("running_var") + 1e-5)
    z = (x - column("running_mean")) * scale

    def back(g):
        return g * column("weight") * scale, (g * z).sum((0, 2, 3)), g.sum((0, 2, 3))

    return z * column("weight") + column("bias"), back


def scores(net, p, x, crop, up=True, bn=False, upstream=None):
    """(N x K x h x w, gradients by parameter name and "x") of parameters p by name; every tap too, under its name."""
    taps, tape, gradients, side = {}, [], {}, crop // 32

    def learn(name):
        def step(back, g):
            to_x, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = back(g)
            return to_x

        return step

    def relu(x, name):
        taps[name] = np.maximum(x, 0)
        tape.append((lambda g: g * (x > 0), lambda back, g: back(g)))
        return taps[name]

    for name, detail in names(net):
        if name == "pool":
            x, back = max_pool(x, up)
            tape.append((back, lambda back, g: back(g)))
            taps[f"pool{detail}"] = x
        elif name == "lrn":
            x, back = lrn(x)
            tape.append((back, lambda back, g: back(g)))
            taps[f"norm{detail}_1"] = x
        else:
            x, back = convolution(x, p[f"{name}.weight"], p[f"{name}.bias"])
            tape.append((back, learn(name)))
            taps[name] = x
            if bn:
                x, back = batch_norm(x, p, name.replace("conv", "bn"))
                tape.append((back, learn(name.replace("conv", "bn"))))
                taps[name.replace("conv", "bn")] = x
            x = relu(x, name.replace("conv", "relu"))
    n, c, h, w = x.shape
    places = [(i, j) for i in range(h - side + 1) for j in range(w - side + 1)]
    x = np.stack([x[:, :, i : i + side, j : j + side].reshape(n, -1) for i, j in places], 1)  # N x places x C side side

    def gather(g):
        to_map = np.zeros((n, c, h, w))
        for at, (i, j) in enumerate(places):
            to_map[:, :, i : i + side, j : j + side] += g[:, at].reshape(n, c, side, side)
        return to_map

    tape.append((gather, lambda back, g: back(g)))
    for name in ("fc6", "fc7", "fc8"):
        before, weight = x, p[f"{name}.weight"]
        x = before @ weight.T + p[f"{name}.bias"]
        taps[name] = x

        def back(g, before=before, weight=weight):
            return g @ weight, np.einsum("npk,npc->kc", g, before), g.sum((0, 1))

        tape.append((back, learn(name)))
        if name != "fc8":
            x = relu(x, name.replace("fc", "relu"))
    shape = (n, -1, h - side + 1, w - side + 1)
    for name in ("fc6", "relu6", "fc7", "relu7", "fc8"):
        taps[name] = taps[name].transpose(0, 2, 1).reshape(shape)
    if upstream is not None:
        g = upstream.reshape(n, upstream.shape[1], -1).transpose(0, 2, 1)
        for back, step in reversed(tape):
            g = step(back, g)
        gradients["x"] = g
    return taps["fc8"], gradients, taps
