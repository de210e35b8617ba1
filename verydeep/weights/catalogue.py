"""Published nets by name: what they are, what they eat, under which licence, where they are, what was published of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from verydeep.errors import ModelError
from verydeep.files.disk import open_regular

KINDS = ("sha256", "sha256_prefix", "sha1", "md5")  # of a file, the strongest first
CHUNK, ROUNDED = 1 << 20, 1 << 20  # bytes read at once; bytes by which a size that is stated in MiB may be wrong


class Stated(NamedTuple):
    """A checksum or address, who states it, and whether the file was fetched and hashed for this catalogue."""

    value: str
    source: str
    checked: bool


class Licence(NamedTuple):
    says: str
    source: str


class Errors(NamedTuple):
    """Published errors in %, with the test they are of."""

    data: str
    protocol: str
    Q: tuple[int, ...]
    top1: float
    top5: float
    source: str

    def __str__(self) -> str:
        at = f" at Q = {','.join(map(str, self.Q))}" if self.Q else ""
        return f"{self.protocol}{at}: {self.top1}/{self.top5}"


@dataclass(frozen=True)
class Entry:
    """One published net. `size` is in bytes, rounded where only MiB are stated; `checksums` by kind."""

    name: str
    net: str
    origin: str
    eats: str
    licences: tuple[Licence, ...]
    file: str
    size: int
    exact: bool
    checksums: dict[str, Stated]
    urls: tuple[Stated, ...]
    errors: tuple[Errors, ...]
    batch_norm: bool = False
    scales: tuple[int, int] | None = None
    head: bool = True  # whether the file has FC layers that can be used

    @property
    def builtin(self) -> bool:
        return self.name.startswith("builtin:")

    @property
    def path(self) -> Path:
        """Where its file is or would be."""
        return (
            Path(str(resources.files("verydeep.weights").joinpath(self.file))) if self.builtin else folder() / self.file
        )

    def fits(self, size: int) -> bool:
        """Whether a file of so many bytes may be it."""
        return abs(self.size - size) <= (0 if self.exact else ROUNDED)

    @property
    def licence(self) -> str:
        """For a contract: everything that is said, with who says it."""
        return "; ".join(f"{one.says} ({one.source})" for one in self.licences)


@cache
def data() -> dict[str, Any]:
    """catalogue.yaml as it stands."""
    return dict(
        yaml.safe_load(resources.files("verydeep.weights").joinpath("catalogue.yaml").read_text(encoding="utf-8"))
    )


@cache
def catalogue() -> dict[str, Entry]:
    """Name -> entry, in the order of the file."""
    return {name: entry_of(name, values, data()["licences"]) for name, values in data()["models"].items()}


def entry_of(name: str, values: dict[str, Any], licences: dict[str, list[dict[str, str]]]) -> Entry:
    sums = {kind: Stated(**values[kind]) for kind in (*KINDS, "tensors_sha256") if kind in values}
    urls = tuple(Stated(u["url"], u["source"], u["checked"]) for u in values.get("urls", ()))
    errors = tuple(Errors(**{**e, "Q": tuple(e["Q"])}) for e in values.get("errors", ()))
    return Entry(
        name, values["net"], values["origin"], values["eats"], tuple(Licence(**one) for one in licences[values["licences"]]),
        values["file"], values.get("bytes") or round(values["mib"] * 2**20), "bytes" in values, sums, urls, errors,
        values.get("batch_norm", False), tuple(values["scales"]) if "scales" in values else None, values.get("head", True),
    )  # fmt: skip


def folder() -> Path:
    """Where fetched files are kept: $VERYDEEP_WEIGHTS, or weights in the user's cache."""
    if own := os.environ.get("VERYDEEP_WEIGHTS"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "verydeep" / "weights"


def entry(name: str) -> Entry:
    """The entry of a name. Raises ModelError."""
    if name not in catalogue():
        near = get_close_matches(name, catalogue(), cutoff=0.5)
        known = f"those of a similar name are {', '.join(near)}: " if near else ""
        raise ModelError(f"{name} is not a published net; {known}see 'verydeep weights list'")
    return catalogue()[name]


def at_hand(name: str) -> Path:
    """The file of a published net. Raises ModelError naming the command that fetches it."""
    found = entry(name)
    if not found.path.is_file():
        raise ModelError(
            f"{name} is not at hand; 'verydeep weights fetch {name}' brings it ({found.size / 2**20:.0f} MiB), or {by_hand(found)}"
        )
    return found.path


def by_hand(found: Entry) -> str:
    return f"put {found.file} into {found.path.parent} by hand"


def digests(path: Path, kinds: Iterable[str] = KINDS) -> dict[str, str]:
    """Checksums of a file, in one pass. Raises OSError."""
    wanted = list(kinds)
    sums = {
        name: hashlib.new(name, usedforsecurity=name == "sha256")
        for name in dict.fromkeys(k.removesuffix("_prefix") for k in wanted)
    }
    with open_regular(path) as f:
        while chunk := f.read(CHUNK):
            for one in sums.values():
                one.update(chunk)
    return {
        kind: sums[kind.removesuffix("_prefix")].hexdigest()[: 8 if kind == "sha256_prefix" else None]
        for kind in wanted
    }


def differing(found: Entry, path: Path) -> str | None:
    """The first checksum of a file that is not the stated one, in words; None where all agree. Raises OSError."""
    stated = {kind: found.checksums[kind].value for kind in KINDS if kind in found.checksums}
    sums = digests(path, stated)
    return next(
        (f"its {words(k)} is {sums[k]}, expected {value}" for k, value in stated.items() if sums[k] != value), None
    )


def check_file(found: Entry, path: Path) -> None:
    """Raises ModelError unless a file is the published one."""
    try:
        wrong = differing(found, path)
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror or e})") from e
    if wrong:
        raise ModelError(f"{path} is not the published file ({wrong}); delete it and fetch it again")


def strongest(found: Entry) -> str | None:
    """The best checksum that is stated of a file."""
    return next((kind for kind in KINDS if kind in found.checksums), None)


def words(kind: str) -> str:
    return {"sha256": "SHA-256", "sha256_prefix": "SHA-256 (first 8 digits)", "sha1": "SHA-1", "md5": "MD5"}[kind]


def whose(sums: dict[str, str]) -> str | None:
    """The name of the published net that a file is, by the best checksum that is stated."""
    for name, found in catalogue().items():
        if (kind := strongest(found)) and sums.get(kind) == found.checksums[kind].value:
            return name
    return None


def published_as(path: Path) -> Entry | None:
    """The published net that a file is, whatever its name; only files of the size of one are hashed. Raises ModelError."""
    try:
        size = path.stat().st_size
        kinds = {strongest(e) for e in catalogue().values() if e.fits(size)}
        name = whose(digests(path, [kind for kind in KINDS if kind in kinds])) if kinds - {None} else None
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror or e})") from e
    return catalogue()[name] if name else None
