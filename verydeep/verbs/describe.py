import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.errors import ConfigError
from verydeep.files.records import Workers
from verydeep.verbs import Device, Engine, FilePath, Verb


@dataclass(frozen=True)
class Describe(Verb):
    """write what a net sees in photos as numbers: the paper's descriptors, or any layers (appendix B)"""

    model: str
    photos: tuple[str, ...]
    """photos, or folders of photos at any depth"""
    _: KW_ONLY
    out: FilePath
    """the folder for a .npy of each layer, a row a photo, photos.csv and contract.json; an interrupted one goes on"""
    second: str | None = None
    """another net, whose descriptors stand behind those of the first; null: none"""
    taps: tuple[str, ...] | None = None
    """layers by the paper's names: conv3_3 and fc7 as the net gives them, before ReLU, relu3_3 and relu7 after, pool5;
    null: the last hidden layer, the paper's descriptor"""
    pool: str = "mean"
    """what becomes of a map: mean or max over the whole photo; none, all of it, for the centre crop; or pca:256, so
    many principal components of that, fitted on the first 1,024 photos"""
    scales: str = "single"
    """smallest sides of the rescaled photo: single, several, or numbers such as 256,384,512"""
    several: Literal["average", "stack"] = "average"
    """what becomes of several scales"""
    mirror: bool | None = None
    """average with the mirror image; null: yes with --pool mean and max, except for nets trained without mirroring"""
    normalise: bool | None = None
    """rows of length 1; null: only without --taps"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic"""
    to: Literal["npz", "safetensors", "parquet"] | None = None
    """one file more, with all layers; null: none"""
    rdm: bool = False
    """1 - Pearson's correlation between all pairs of at most 4,000 photos, for each layer, and one picture"""
    device: Device = "auto"
    engine: Engine = "auto"
    workers: Workers = -1

    SPARES = "name fewer --taps, take --pool mean, smaller --scales, or --workers 1"

    def run(self) -> dict[str, Any] | None:
        from verydeep.describe import (
            MOST_COMPARED,
            Describer,
            Manner,
            describe_into,
            engine_in,
            layers_in,
            write_dissimilarities,
            write_form,
        )  # fmt: skip
        from verydeep.engines import chosen
        from verydeep.hardware import device_for
        from verydeep.predict import photos_in
        from verydeep.progress import Progress
        from verydeep.ranks import joined
        from verydeep.weights import doubts_about, load_describing

        if "-" in self.photos:
            raise ConfigError("photos: standard input cannot be read again to go on; save the photo to a file")
        out, photos = Path(self.out), photos_in(self.photos)
        if self.rdm and len(photos) > MOST_COMPARED:
            raise ConfigError(f"rdm: {len(photos):,} photos; all pairs of at most {MOST_COMPARED:,} are compared")
        nets = {name: load_describing(name) for name in (self.model, self.second) if name is not None}
        taps = tuple(dict.fromkeys(self.taps or ["descriptor"]))
        mirror = self.mirror
        if mirror is None:
            mirror = self.pool in ("mean", "max") and all(net.contract.flip for net in nets.values())
        normalise = not self.taps if self.normalise is None else self.normalise
        device = device_for(self.device).type
        asked = engine_in(out, self.engine)
        computes = chosen(asked, device, self.precision, list(nets.values())).engine
        way = Manner(taps, self.pool, self.scales, self.several, mirror, normalise, self.precision, computes)
        with joined() as ranks:
            describer = Describer(nets, way, device, self.workers)
            for name, net in nets.items() if ranks.first else ():
                for line in doubts_about(name, net, layers_in(net, taps)):
                    print(line, file=sys.stderr)
            errors = describe_into(out, describer, photos, ranks, Progress("auto" if ranks.first else "none"))
            if not ranks.first:
                return None
            files = [out / f"{tap}.npy" for tap in taps]
            files += [write_form(out, self.to)] if self.to else []
            files += write_dissimilarities(out) if self.rdm else []
        return {"folder": str(out), "photos": len(photos), "errors": len(errors), "files": list(map(str, files))}

    def text(self, record: dict[str, Any]) -> str:
        return f"{record['photos']:,} photos are described in {', '.join(record['files'])}"

    def show(self, record: dict[str, Any], as_json: bool) -> int:
        super().show(record, as_json)
        if record and record["errors"]:
            more = f"{record['errors']:,} of the photos could not be described; {record['folder']}/photos.csv says why"
            print(f"verydeep describe: {more}", file=sys.stderr, flush=True)
        return int(bool(record and record["errors"]))
