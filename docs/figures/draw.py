"""The pictures of the tour. They hold symbols and numbers only, so that both languages share them.

python docs/figures/draw.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, Polygon, Rectangle, Wedge
from PIL import Image

from verydeep.data.augment import cut, draw
from verydeep.data.photo import Pixels, centre_window, rescale, scaled_size
from verydeep.net.sizes import sizes, stack_weights
from verydeep.net.vgg import VGG, column
from verydeep.paper import PARAMETERS, STRIDE, TABLE_1

CROP, SCALES = 224, (256, 384, 512)
INK, GREY, CROP_COLOUR = "#22303c", "#8a97a3", "#e4572e"
BLUES = ("#cfe3f1", "#9fc7e3", "#6aa6d0", "#3a82b8", "#235f8f")
OTHER_KERNELS = {1: "#f2a541", 5: "#7d5ba6"}
PAINT = {
    "sky": "#cfe6f5",
    "sun": "#f7d154",
    "hill": "#a8cf9b",
    "grass": "#7db56f",
    "cat": "#d98a4b",
    "belly": "#f4dcc0",
    "ball": "#c9405b",
}
FIELD = 26  # side of a value in fields.png
WIDTH = 10.0  # inches; 1,200 pixels at 120 dpi
plt.rcParams.update({"font.size": 13, "text.color": INK, "mathtext.fontset": "dejavusans"})


def scene(height: int = 750, width: int = 1000) -> Image.Image:
    """A stand-in for a photo, 4:3: a cat with a ball on a meadow."""
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAINT["sky"])
    ax = blank(figure, (0, 0, 1, 1), (0, width), (height, 0))
    cat, belly = PAINT["cat"], PAINT["belly"]
    ax.add_patch(Circle((860, 120), 65, color=PAINT["sun"]))
    ax.add_patch(Ellipse((180, 560), 900, 420, color=PAINT["hill"]))
    ax.add_patch(Ellipse((900, 600), 800, 360, color="#b9d9a9"))
    ax.add_patch(Rectangle((0, 560), width, 190, color=PAINT["grass"]))
    for x, y in ((60, 640), (150, 700), (250, 620), (760, 720), (860, 640), (950, 700), (700, 610)):
        ax.plot([x - 9, x, x + 9], [y - 16, y, y - 18], color="#5d9a55", lw=3, solid_capstyle="round", zorder=1)
    ax.add_patch(Wedge((640, 560), 135, -70, 105, width=34, color="#c47a3e"))  # tail
    ax.add_patch(Ellipse((500, 540), 300, 340, color=cat))
    ax.add_patch(Ellipse((500, 570), 160, 240, color=belly))
    for x in (430, 570):
        ax.add_patch(Ellipse((x, 690), 110, 56, color=belly))
    for side in (-1, 1):
        ax.add_patch(Polygon([(500 + side * 140, 95), (500 + side * 132, 260), (500 + side * 25, 175)], color=cat))
        ax.add_patch(
            Polygon([(500 + side * 126, 128), (500 + side * 118, 215), (500 + side * 62, 175)], color="#e9a9a0")
        )
    ax.add_patch(Ellipse((500, 280), 310, 260, color=cat))
    for x in (470, 500, 530):
        ax.plot([x, x], [165, 205], color="#a9642f", lw=7, solid_capstyle="round")
    for side in (-1, 1):
        ax.add_patch(Ellipse((500 + side * 68, 268), 56, 64, color="white"))
        ax.add_patch(Ellipse((500 + side * 64, 270), 28, 50, color=INK))
        ax.add_patch(Ellipse((500 + side * 28, 340), 66, 52, color=belly))
        for dy in (-16, 4, 24):
            ax.plot([500 + side * 60, 500 + side * 190], [340 + dy / 3, 330 + dy * 1.3], color="white", lw=2.5)
    ax.add_patch(Polygon([(482, 312), (518, 312), (500, 334)], color="#a5484f"))
    ax.add_patch(Circle((250, 660), 62, color=PAINT["ball"]))
    ax.add_patch(Wedge((250, 660), 62, 200, 250, width=20, color="#e58a9b"))
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # type: ignore[attr-defined]
    plt.close(figure)
    return Image.fromarray(np.ascontiguousarray(pixels))


def scale(photo: Image.Image) -> Figure:
    """One photo at S = 256, 384 and 512, the same square of 224 on each, and what the square holds."""
    gap, crop_side, margin = 70, 380, 80
    shown = [rescale(photo, s) for s in SCALES]
    widths = [p.shape[1] for p in shown]
    total, bottom = sum(widths) + gap * 2 + margin, max(SCALES) + 60
    figure, ax = canvas((-margin, total - margin + 20), (bottom + 160 + crop_side, 42))
    left = 0
    for s, pixels in zip(SCALES, shown, strict=True):
        y, x = bottom - s, left
        picture(ax, pixels, x, y, pixels.shape[1], s)
        span(ax, (x - 16, y), (x - 16, bottom), f"$S$ = {s}", 90)
        top, start, _, _ = centre_window(*scaled_size(photo.height, photo.width, s), CROP)
        frame(ax, x + start, y + top, CROP)
        below = (x + pixels.shape[1] / 2 - crop_side / 2, bottom + 110)
        for corner in (0, 1):
            ax.plot(
                [x + start + corner * CROP, below[0] + corner * crop_side],
                [y + top + CROP, below[1]],
                color=CROP_COLOUR,
                lw=1,
                ls=(0, (4, 3)),
            )
        picture(ax, rescale(photo, s, (top, start, CROP, CROP)), *below, crop_side, crop_side)
        frame(ax, *below, crop_side)
        ax.text(
            below[0] + crop_side / 2,
            below[1] + crop_side + 16,
            f"{CROP} × {CROP}",
            ha="center",
            va="top",
            color=CROP_COLOUR,
        )
        left += pixels.shape[1] + gap
    return figure


def jitter(photo: Image.Image) -> Figure:
    """The crops of one photo in six epochs: S fixed at 256 above, S drawn from [256, 512] below."""
    epochs, pitch, row = 6, 250, 310
    figure, ax = canvas((-10, epochs * pitch - 16), (2 * row - 34, -56))
    for r, scales in enumerate(((256, 256), (256, 512))):
        for epoch in range(epochs):
            geometry = draw(0, epoch, 7, photo.height, photo.width, CROP, scales)
            pixels = cut(photo, geometry, CROP)
            x, y = epoch * pitch, r * row
            picture(ax, pixels, x, y, CROP, CROP)
            frame(ax, x, y, CROP)
            ax.text(x + CROP / 2, y + CROP + 10, f"$S$ = {geometry.scale}", ha="center", va="top")
            if r == 0:
                ax.text(x + CROP / 2, -14, f"{epoch + 1}", ha="center", va="bottom", color=GREY)
    return figure


def dense(photo: Image.Image) -> Figure:
    """The window of 224 in steps of 32 over the photo at Q = 384, its cells on the class score map, mean, soft-max."""
    pixels = rescale(photo, 384)
    height, width = pixels.shape[:2]
    net = VGG("D", device="meta")
    rows, columns = sizes(net, height)[-1].output[1], sizes(net, width)[-1].output[1]
    figure, ax = canvas((-70, 1390), (height + 70, -62))
    picture(ax, pixels, 0, 0, width, height)
    span(ax, (-16, 0), (-16, height), f"$Q$ = {height}", 90)
    span(ax, (0, height + 16), (width, height + 16), f"{width}", 0)
    span(ax, (0, -14), (STRIDE, -14), f"{STRIDE}", 0, above=True)
    span(ax, (width - CROP, height - 22), (width, height - 22), f"{CROP}", 0, above=True)
    cell, x0, behind = 30, 630, 22
    y0 = height / 2 - rows * cell / 2 + behind
    maps = [share(pixels, name, rows, columns) for name in ("sky", "grass", "cat")]
    for k, values in enumerate(maps):
        x, y = x0 + (2 - k) * behind, y0 - (2 - k) * behind
        for i, j in np.ndindex(rows, columns):
            tint = plt.get_cmap("Blues")(0.06 + 0.8 * values[i, j] / max(m.max() for m in maps))
            ax.add_patch(Rectangle((x + j * cell, y + i * cell), cell, cell, fc=tint, ec="white", lw=0.8))
        ax.add_patch(Rectangle((x, y), columns * cell, rows * cell, fill=False, ec=INK, lw=1))
    ax.text(
        x0 + columns * cell / 2 + 2 * behind,
        y0 - 2 * behind - 14,
        f"{rows} × {columns} × $K$",
        ha="center",
        va="bottom",
    )
    for (i, j), colour in {
        (0, 1): OTHER_KERNELS[1],
        (rows - 1, columns - 1): OTHER_KERNELS[5],
        (0, 0): CROP_COLOUR,
    }.items():
        frame(ax, j * STRIDE, i * STRIDE, CROP, colour)
        frame(ax, x0 + j * cell, y0 + i * cell, cell, colour)
        for corner in (0, 1) if (i, j) != (0, 1) else ():
            ends = [j * STRIDE + CROP, x0 + j * cell], [i * STRIDE + corner * CROP, y0 + (i + corner) * cell]
            ax.plot(*ends, color=colour, lw=1, ls=(0, (4, 3)))
    means = np.array([m.mean() for m in maps])
    posteriors = np.exp(6 * means) / np.exp(6 * means).sum()
    bars(ax, 1085, list(means), rf"$\frac{{1}}{{{rows * columns}}}\sum$", height / 2)
    bars(ax, 1285, list(posteriors), r"$\frac{e^{z_k}}{\sum\,e^{z_j}}$", height / 2)
    return figure


def fields() -> Figure:
    """Two 3x3 layers see 5x5 and three see 7x7; beside them the weights of either way."""
    figure, ax = canvas((-10, 1120), (490, 24))
    for middle, layers in ((105, 2), (365, 3)):
        see = stack_weights(3, layers, 1)[1]
        x = 0.0 if layers == 3 else 7 * FIELD + 78.0
        for n in range(see, 0, -2):
            field(ax, x, middle, n, see)
            x += n * FIELD + 78
        stack, single = stack_weights(3, layers, 1)[0], stack_weights(see, 1, 1)[0]
        for n in range(layers):
            squares(ax, 705 + n * 64, middle, 3, BLUES[2])
        squares(ax, 945, middle, see, OTHER_KERNELS[5])
        for x, text in (
            (705 + (layers * 64 - 10) / 2, f"{layers} × 3² $C$² = {stack} $C$²"),
            (945 + see * 9, f"{see}² $C$² = {single} $C$²"),
        ):
            ax.text(x, middle + 84, text, ha="center", va="top")
    return figure


def field(ax: Axes, x: float, middle: float, n: int, see: int) -> None:
    """A map of n x n values; the 3x3 that make its right neighbour's middle value are framed, with lines to it."""
    squares(ax, x, middle, n, BLUES[(see - n) // 2] if n > 1 else CROP_COLOUR, FIELD)
    ax.text(
        x + n * FIELD / 2,
        middle + n * FIELD / 2 + 8,
        f"{n} × {n}",
        ha="center",
        va="top",
        color=INK if n > 1 else CROP_COLOUR,
    )
    if n == 1:
        return
    left, side, end = x + (n - 3) * FIELD, 3 * FIELD, x + n * FIELD + 78 + (n - 3) * FIELD
    top, target = middle - n * FIELD / 2, middle - (n - 2) * FIELD / 2
    frame(ax, left, top, side)
    frame(ax, end, target, FIELD)
    for corner in (0, 1):
        ax.plot(
            [left + side, end],
            [top + corner * side, target + corner * FIELD],
            color=CROP_COLOUR,
            lw=1,
            ls=(0, (4, 3)),
            zorder=3,
        )


def nets() -> Figure:
    """The columns of Table 1: a bar a layer, as wide as its channels, with its kernel; below, layers and parameters."""
    pitch, bar, gap = 590, 76, 44
    slots = [max(len(column(net)[b]) for net in TABLE_1) for b in range(5)]
    starts = [sum(slots[:b]) * bar + b * gap for b in range(6)]
    figure, ax = canvas((-380, len(TABLE_1) * pitch - 40), (starts[5] + 3 * bar + 320, -170))
    for b, channels in enumerate((64, 128, 256, 512, 512)):
        ax.text(-60, starts[b] + slots[b] * bar / 2, channels, ha="right", va="center", color=GREY)
        ax.plot([-30, len(TABLE_1) * pitch - 60], [starts[b + 1] - gap / 2] * 2, color=GREY, lw=0.8, ls=(0, (2, 3)))
    for row, channels in enumerate((4096, 4096, 1000)):
        ax.text(-60, starts[5] + (row + 0.5) * bar, channels, ha="right", va="center", color=GREY, fontsize=11)
    for i, net in enumerate(TABLE_1):
        middle, blocks = i * pitch + 256, column(net)
        ax.text(middle, -36, net, ha="center", va="bottom", fontweight="bold")
        for b, block in enumerate(blocks):
            for n, layer in enumerate(block):
                net_bar(
                    ax,
                    middle,
                    starts[b] + n * bar,
                    layer.width,
                    bar,
                    OTHER_KERNELS.get(layer.kernel, BLUES[b]),
                    f"{layer.kernel}",
                    layer.lrn,
                )
        for row, width in enumerate((512, 512, 125)):  # a bar of 4096 would be eight columns wide
            net_bar(ax, middle, starts[5] + row * bar, width, bar, "#dde3e8", "", False)
        ax.text(middle, starts[5] + 3 * bar + 60, sum(map(len, blocks)) + 3, ha="center", va="top", fontweight="bold")
        ax.text(
            middle, starts[5] + 3 * bar + 170, f"{PARAMETERS[net] / 1e6:.0f} · 10⁶", ha="center", va="top", color=GREY
        )
    return figure


def net_bar(ax: Axes, middle: float, y: float, width: float, height: float, colour: str, text: str, lrn: bool) -> None:
    ax.add_patch(Rectangle((middle - width / 2, y + 5), width, height - 10, fc=colour, ec="none"))
    dark = colour in (*BLUES[3:], OTHER_KERNELS[5])
    ax.text(
        middle, y + height / 2, text, ha="center", va="center_baseline", color="white" if dark else INK, fontsize=11
    )
    if lrn:
        ax.add_patch(Rectangle((middle - width / 2, y + height - 3), width, 12, fc=CROP_COLOUR, ec="none"))


def share(pixels: Pixels, name: str, rows: int, columns: int) -> np.ndarray:
    """The share of each window that has one of the scene's colours: a stand-in for a class score."""
    wanted = np.array([int(PAINT[name][i : i + 2], 16) for i in (1, 3, 5)])
    mask = np.abs(pixels.astype(int) - wanted).sum(2) < 12
    windows = [[mask[i * STRIDE :, j * STRIDE :][:CROP, :CROP].mean() for j in range(columns)] for i in range(rows)]
    return np.array(windows)


def blank(
    figure: Figure, box: tuple[float, float, float, float], x: tuple[float, float], y: tuple[float, float]
) -> Axes:
    ax = figure.add_axes(box)
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.axis("off")
    return ax


def canvas(x: tuple[float, float], y: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty picture in pixels of its own, y downwards, as high as its shape asks."""
    figure = plt.figure(figsize=(WIDTH, WIDTH * abs(y[1] - y[0]) / (x[1] - x[0])), dpi=120, facecolor="white")
    return figure, blank(figure, (0, 0, 1, 1), x, y)


def picture(ax: Axes, pixels: Pixels, x: float, y: float, width: float, height: float) -> None:
    ax.imshow(pixels, extent=(x, x + width, y + height, y), interpolation="bilinear", aspect="auto", zorder=1)


def frame(ax: Axes, x: float, y: float, side: float, colour: str = CROP_COLOUR) -> None:
    ax.add_patch(Rectangle((x, y), side, side, fill=False, ec=colour, lw=2.2, zorder=3, joinstyle="miter"))


def span(ax: Axes, a: tuple[float, float], b: tuple[float, float], text: str, turn: int, above: bool = False) -> None:
    """A measured length: a double arrow with its label to the left of it, or below, or above."""
    ax.add_patch(FancyArrowPatch(a, b, arrowstyle="<|-|>", mutation_scale=9, color=INK, lw=1, shrinkA=0, shrinkB=0))
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    if turn:
        ax.text(x - 10, y, text, ha="right", va="center", rotation=turn)
    else:
        ax.text(x, y + (-10 if above else 10), text, ha="center", va="bottom" if above else "top")


def bars(ax: Axes, x: float, values: list[float], text: str, middle: float) -> None:
    """An arrow with a formula on it, then one bar a class."""
    ax.add_patch(
        FancyArrowPatch((x - 92, middle), (x - 14, middle), arrowstyle="-|>", mutation_scale=13, color=INK, lw=1.5)
    )
    ax.text(x - 56, middle - 16, text, ha="center", va="bottom", fontsize=15)
    pitch = 50
    for k, value in enumerate(values):
        ax.add_patch(
            Rectangle((x, middle + (k - len(values) / 2) * pitch + 8), 85 * value, pitch - 16, fc=BLUES[3], ec="none")
        )
    ax.plot([x, x], [middle - len(values) * pitch / 2, middle + len(values) * pitch / 2], color=INK, lw=1)
    ax.text(x, middle + len(values) * pitch / 2 + 10, "$K$", ha="center", va="top")


def squares(ax: Axes, x: float, middle: float, n: int, colour: str, side: float = 18) -> None:
    for i in range(n):
        for j in range(n):
            ax.add_patch(
                Rectangle((x + j * side, middle + (i - n / 2) * side), side, side, fc=colour, ec="white", lw=1)
            )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    photo = scene()
    pictures = {
        "scale": scale(photo),
        "jitter": jitter(photo),
        "dense": dense(photo),
        "fields": fields(),
        "nets": nets(),
    }
    for name, figure in pictures.items():
        figure.canvas.draw()
        pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        pixels.quantize(192, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
        plt.close(figure)


if __name__ == "__main__":
    main()
