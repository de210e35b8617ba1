"""What the data doctor can find, and what the program does about each. The table is the contract of `verydeep check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from verydeep.words import unit

Severity = Literal["error", "warning", "note"]
MOST_EXAMPLES = 1000  # kept of each finding; the count is always of all
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    severity: Severity  # error: training would stop; warning: numbers will suffer; note: handled
    unit: str
    what: str
    will: str  # what the program does
    hint: str = ""  # what to try


STOPS = (
    "Training and testing stop and name the photo; with --bad_photos skip it is left out and listed, "
    "in training in skipped.csv, in a test with its result."
)
REPAIR = "Repair or remove them."
KINDS = {
    "truncated": Kind("error", "photos", "damaged or cut short", STOPS, REPAIR),
    "empty-file": Kind("error", "photos", "of 0 bytes", STOPS, REPAIR),
    "no-photo": Kind("error", "photos", "named like photos but not JPEG, PNG, WebP, BMP, GIF or TIFF", STOPS, REPAIR),
    "too-big": Kind("error", "photos", "beyond the limits of size or memory", STOPS, "Make them smaller."),
    "unreadable": Kind("error", "photos", "not readable for another reason", STOPS, REPAIR),
    "missing-from-train": Kind("error", "classes", "without a training photo", "Training stops and names the class.",
        "Add photos of it to train, or remove the class."),
    "leak": Kind("warning", "photos", "COPIES ON BOTH SIDES: a photo that is tested or validated on also stands in another split",
        "Nothing is removed: the net is tested on what it has learned, and the error comes out too low.",
        "Remove the copies from all splits but one before you train."),
    "contradiction": Kind("warning", "photos", "copies with different labels", "All are used as labelled: the net is told two truths.",
        "Decide on one label and remove the others."),
    "exact-duplicates": Kind("warning", "photos", "the same file more than once",
        "All are used; each copy counts again. In DATA without splits copies may be drawn into different splits.", "Keep one of each."),
    "near-duplicates": Kind("warning", "photos", "the same picture at another size, quality, brightness or trim",
        "All are used; each copy counts again. In DATA without splits copies may be drawn into different splits.",
        "Look at them and keep one of each."),
    "label-typo": Kind("warning", "classes", "names that differ only by case, spaces, hyphens, underscores or Unicode form",
        "Each spelling is a class of its own.", "Give them one name if they mean the same."),
    "spaced-name": Kind("warning", "classes", "names that begin or end with a space", "The space stays part of the class's name.",
        "Rename the folder."),
    "imbalance": Kind("warning", "classes", "with at most a tenth of the largest class's photos",
        "Every photo counts the same, so the net favours frequent classes.", "Try --balance loss or --balance sampling."),
    "few-photos": Kind("warning", "classes", "with fewer than three photos",
        "Where splits are drawn, a single photo goes to training and two are divided between training and validation, so such a class "
        "is not tested.", "Add photos, or remove the class."),
    "missing-from-split": Kind("warning", "classes", "without a photo in val or test", "They are trained but not measured there.",
        "Add photos of them to that split."),
    "tiny": Kind("warning", "photos", "smallest side below 32 pixels", "They are enlarged to S and blurred.",
        "For such data train with smaller crops: --recipe demo."),
    "long": Kind("warning", "photos", "longer than 8:1",
        "Training takes crops of them and its own report tests their middle; `evaluate` with the dense protocol stops.",
        "Add --long_photos middle to evaluate."),
    "hidden": Kind("warning", "entries", "hidden files and folders", "They are passed over: no photos, no classes."),
    "empty-class": Kind("warning", "folders", "without a photo", "They are no classes.", "Fill or remove them."),
    "loose-photos": Kind("warning", "photos", "beside the class folders", "They are passed over: they have no label.",
        "Move each into the folder of its class."),
    "links": Kind("warning", "links", "to folders below a class, or to nothing", "They are passed over.", "Copy the files."),
    "not-photos": Kind("note", "files", "not photos by their suffix", "They are passed over."),
    "small": Kind("note", "photos", "smallest side from 32 to 255 pixels", "They are enlarged to the paper's S = 256.",
        "A smaller --scale and --crop suit them better."),
    "huge": Kind("note", "photos", "more than 24 megapixels", "They are used. They decode slowly; training decodes JPEGs at a fraction.",
        "Smaller copies load faster."),
    "cmyk": Kind("note", "photos", "CMYK", "They are converted to RGB."),
    "16-bit": Kind("note", "photos", "of 16 bits a channel", "They are converted to 8 bits."),
    "alpha": Kind("note", "photos", "with transparency", "Transparent parts become white."),
    "animated": Kind("note", "photos", "of several pictures or pages", "The first is taken."),
    "exif-rotated": Kind("note", "photos", "stored turned or mirrored", "EXIF's orientation is applied: the net sees them upright."),
    "grey": Kind("note", "photos", "grey", "They are used as RGB with three equal channels."),
}  # fmt: skip
ORDER = {id: i for i, id in enumerate(sorted(KINDS, key=lambda id: SEVERITIES.index(KINDS[id].severity)))}


@dataclass(frozen=True)
class Finding:
    id: str
    count: int
    examples: list[dict[str, Any]]  # {"name", ...}, at most MOST_EXAMPLES
    detail: str = ""  # figures in a few words
    groups: int | None = None  # of copies

    @property
    def kind(self) -> Kind:
        return KINDS[self.id]

    def as_dict(self) -> dict[str, Any]:
        k = self.kind
        return {
            "id": self.id, "severity": k.severity, "count": self.count, "unit": unit(k.unit, self.count), "groups": self.groups,
            "what": k.what, "detail": self.detail, "will": k.will, "hint": k.hint, "examples": self.examples,
        }  # fmt: skip


def finding(id: str, names: list[str], detail: str = "") -> list[Finding]:
    """None or one finding of things by name."""
    return [Finding(id, len(names), [{"name": n} for n in names[:MOST_EXAMPLES]], detail)] if names else []
