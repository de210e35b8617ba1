"""Pictures whose boxes are known: real cut-outs feathered onto windows of real photographs, as JPEGs and a list.

    python benchmarks/stamps.py --out runs/stamps             # runs/stamps/list.csv: path, label, split, box
    python benchmarks/stamps.py --out runs/stamps --shuffled  # and shuffled.csv beside it, the control

The cut-outs are Debian's tuxpaint-stamps-default, the photographs those that scikit-image ships. A picture has one
stamp, whose top folder is its class and which is in one split only; its longer side is 0.3 to 0.9 of the picture's
smallest, of 128 to 200 pixels. The box is the tight one of alpha above 1/2. In shuffled.csv the boxes of train are
dealt among its pictures, in shares of their sizes: whoever learns from it knows where boxes lie, and no more.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageChops, ImageFilter, ImageOps

STAMPS = Path("/usr/share/tuxpaint/stamps")
CLASSES = ("animals", "food", "household", "plants", "town", "vehicles")
PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg",
    "ihc.png", "brick.png", "camera.png", "grass.png", "gravel.png", "moon.png",
)  # fmt: skip
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # of the stamps of each class, and of the pictures
ASPECTS = (1, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)
MOST_STAMPS = 100  # of a class
FEATHER = 1.0  # pixels
LONGEST = 6  # a stamp's longer side by its shorter

Box = tuple[int, int, int, int]
Row = tuple[str, str, str, Box, tuple[int, int]]  # path, label, split, box, the picture's size


def cut_outs(label: str, random: np.random.Generator) -> dict[str, list[Image.Image]]:
    """The stamps of a class by split, cut to their alpha; mirrored copies, opaque and very long ones left out."""
    found: dict[bytes, Image.Image] = {}
    for file in sorted(f for f in (STAMPS / label).rglob("*.png") if "mirror" not in f.stem):
        stamp = Image.open(file).convert("RGBA")
        alpha = stamp.getchannel("A").point(lambda a: 255 * (a > 127))
        cut = stamp.crop(alpha.getbbox())
        if alpha.getextrema() == (0, 255) and max(cut.size) < LONGEST * min(cut.size):
            found.setdefault(stamp.tobytes(), cut)
    order = random.permutation(len(found))[:MOST_STAMPS]
    stamps = [list(found.values())[i] for i in order]
    ends = np.round(np.cumsum([0, *SHARES.values()]) * len(stamps)).astype(int)
    return {split: stamps[ends[i] : ends[i + 1]] for i, split in enumerate(SHARES)}


def window(photographs: list[Image.Image], random: np.random.Generator) -> Image.Image:
    """A random part of a random photograph, maybe mirrored; a grey one is tinted, lest colour alone tell the stamp."""
    photo = photographs[random.integers(len(photographs))]
    side, aspect = random.integers(128, 201), ASPECTS[random.integers(len(ASPECTS))]
    width, height = round(side * max(1, aspect)), round(side * max(1, 1 / aspect))
    most = min(photo.width / width, photo.height / height)
    factor = random.uniform(min(1, most), most)
    x, y = random.random() * (photo.width - width * factor), random.random() * (photo.height - height * factor)
    box = (x, y, min(x + width * factor, photo.width), min(y + height * factor, photo.height))
    part = photo.resize((width, height), Image.Resampling.BICUBIC, box=box)
    if part.mode == "L":
        part = ImageOps.colorize(part, *(tuple(random.integers(least, least + 100, 3).tolist()) for least in (0, 156)))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def pasted(scene: Image.Image, stamp: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Box | None]:
    """The scene with the stamp at random scale and place, and its box; None where too thin, for a tenth is lost."""
    if random.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = random.uniform(0.3, 0.9) * min(scene.size) / max(stamp.size)
    width, height = (max(1, round(side * scale)) for side in stamp.size)
    stamp = stamp.resize((width, height), Image.Resampling.BICUBIC)
    place = tuple(int(random.integers(most - side + 1)) for most, side in zip(scene.size, stamp.size, strict=True))
    over, alpha = Image.new("RGB", scene.size), Image.new("L", scene.size)
    over.paste(stamp.convert("RGB"), place)
    alpha.paste(stamp.getchannel("A"), place)
    # Only inwards, for outside the stamp has no colour.
    alpha = ImageChops.darker(alpha, alpha.filter(ImageFilter.GaussianBlur(FEATHER)))
    box = alpha.point(lambda a: 255 * (a > 127)).getbbox()
    whole = box is not None and box[2] - box[0] >= 0.9 * width and box[3] - box[1] >= 0.9 * height
    return Image.composite(over, scene, alpha), box if whole else None


def write_pictures(out: Path, number: int, seed: int) -> list[Row]:
    """The pictures, about as many of every class, written to out/photos; their rows."""
    random = np.random.default_rng(seed)
    folder, rows = Path(skimage.__file__).parent / "data", list[Row]()
    photographs = [Image.open(folder / name) for name in PHOTOGRAPHS if (folder / name).is_file()]
    stamps = {label: cut_outs(label, random) for label in CLASSES}
    (out / "photos").mkdir(parents=True, exist_ok=True)
    for split, share in SHARES.items():
        for i in range(round(number * share)):
            label, box = CLASSES[i % len(CLASSES)], None
            choice = stamps[label][split]
            turn = i // len(CLASSES)
            while box is None:
                stamp = choice[turn % len(choice)]
                turn += 1
                picture, box = pasted(window(photographs, random), stamp, random)
            path = f"photos/{split}-{i:04d}.jpg"  # whose name says nothing of the class
            picture.save(out / path, quality=95)
            rows.append((path, label, split, box, picture.size))
    return rows


def dealt(rows: list[Row], seed: int) -> list[Row]:
    """The boxes of train dealt among its pictures, none to its own, in shares of their sizes."""
    train = [row for row in rows if row[2] == "train"]
    order = np.random.default_rng(seed).permutation(len(train))
    given = {train[to][0]: train[of] for to, of in zip(order, np.roll(order, 1), strict=True)}
    found = []
    for path, label, split, box, size in rows:
        if path in given:
            *_, other, theirs = given[path]
            x0, y0, x1, y1 = (round(edge * size[i % 2] / theirs[i % 2]) for i, edge in enumerate(other))
            box = (x0, y0, x1, y1)
        found.append((path, label, split, box, size))
    return found


def write_list(file: Path, rows: list[Row]) -> None:
    with file.open("w", newline="") as f:
        lines = csv.writer(f)
        lines.writerow(("path", "label", "split", "box"))
        lines.writerows((path, label, split, "{} {} {} {}".format(*box)) for path, label, split, box, _ in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--number", type=int, default=1_000, help="of pictures in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffled", action="store_true", help="write shuffled.csv too")
    args = parser.parse_args()
    if not STAMPS.is_dir():
        parser.exit(1, f"{STAMPS} is not there; apt-get install tuxpaint-stamps-default\n")
    rows = write_pictures(args.out, args.number, args.seed)
    write_list(args.out / "list.csv", rows)
    if args.shuffled:
        write_list(args.out / "shuffled.csv", dealt(rows, args.seed))
    print(f"{len(rows)} pictures of {len(CLASSES)} classes in {args.out / 'list.csv'}")


if __name__ == "__main__":
    main()
