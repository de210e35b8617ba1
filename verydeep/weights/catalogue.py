"""Published nets by name: what they are, their input and licences, where they are, what was published of them."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from verydeep.errors import ModelError
from verydeep.files.disk import open_regular, saying
from verydeep.files.records import record_of

# Checksums of a file, the strongest first, as people call them.
SUMS = {"sha256": "SHA-256", "sha256_prefix": "SHA-256 (first 8 digits)", "sha1": "SHA-1", "md5": "MD5"}
CHUNK, ROUNDED = 1 << 20, 1 << 20  # bytes read at once; bytes by which a size that is stated in MiB may be wrong
LIST = "see 'verydeep weights list'"


@dataclass(frozen=True)
class Stated:
    """A checksum or address, who states it, and whether the file was fetched and hashed for this catalogue."""

    value: str
    source: str
    checked: bool = False
    MAY_LACK = {"checked"}


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
    """One published net, as catalogue.yaml has it; its size is stated in bytes, or rounded in MiB."""

    name: str
    net: str
    origin: str
    expects: str
    licences: tuple[Licence, ...]
    file: str
    checksums: dict[str, Stated]
    urls: tuple[Stated, ...] = ()
    errors: tuple[Errors, ...] = ()
    bytes: int | None = None
    mib: float | None = None
    batch_norm: bool = False
    scales: tuple[int, int] | None = None
    head: bool = True  # whether the file has FC layers that can be used
    MAY_LACK = {"urls", "errors", "bytes", "mib", "batch_norm", "scales", "head"}

    @property
    def builtin(self) -> bool:
        return self.name.startswith("builtin:")

    @property
    def path(self) -> Path:
        """Where its file is or would be."""
        return (Path(__file__).parent if self.builtin else weights_folder()) / self.file

    @property
    def size(self) -> int:
        return self.bytes or round((self.mib or 0) * 2**20)

    @property
    def here(self) -> bool:
        """Whether its file is at hand, by its size."""
        return self.path.is_file() and self.fits(self.path.stat().st_size)

    def fits(self, size: int) -> bool:
        """Whether a file of so many bytes may be it."""
        return abs(self.size - size) <= (0 if self.bytes else ROUNDED)

    @property
    def licence(self) -> str:
        """For a contract: everything that is said, with who says it."""
        return "; ".join(f"{one.says} ({one.source})" for one in self.licences)

    @property
    def strongest(self) -> str | None:
        """The best checksum that is stated of the file."""
        return next((kind for kind in SUMS if kind in self.checksums), None)

    def check(self, path: Path) -> None:
        """Raises ValueError naming a checksum of the file that is not the stated one, and ModelError."""
        for kind, found in digests(path, [kind for kind in SUMS if kind in self.checksums]).items():
            if found != (stated := self.checksums[kind].value):
                raise ValueError(f"its {SUMS[kind]} is {found}, expected {stated}")


@cache
def data() -> dict[str, Any]:
    """catalogue.yaml as it stands."""
    return dict(yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")))


@cache
def catalogue() -> dict[str, Entry]:
    """Name -> entry, in the order of the file."""
    return {name: record_of(Entry, values | {"name": name}) for name, values in data()["models"].items()}


def weights_folder() -> Path:
    """Where fetched files are kept: $VERYDEEP_WEIGHTS, or weights in the user's cache."""
    if own := os.environ.get("VERYDEEP_WEIGHTS"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "verydeep" / "weights"


def at_hand(found: Entry) -> Path:
    """The file of a published net. Raises ModelError naming the command that fetches it."""
    if not found.path.is_file():
        how = f"'verydeep weights fetch {found.name}' brings it ({found.size / 2**20:.0f} MiB)"
        raise ModelError(f"{found.name} is not at hand; {how}, or put {found.file} into {found.path.parent} by hand")
    return found.path


def convolutions_at_hand() -> dict[str, str]:
    """Name -> net of the published nets D and E, without batch normalisation, whose files are here; in their order."""
    wanted = [e for e in catalogue().values() if e.net in ("D", "E") and not e.batch_norm and not e.builtin]
    return {e.name: e.net for e in wanted if e.here}


def checked_file(found: Entry) -> Path:
    """The file of a published net, which is that and no other. Raises ModelError."""
    path = at_hand(found)
    try:
        found.check(path)
    except ValueError as e:
        raise ModelError(f"{path} is not the published file ({e}); delete it and fetch it again") from e
    return path


def digests(path: Path, kinds: Iterable[str] = SUMS) -> dict[str, str]:
    """Checksums of a file, in one pass. Raises ModelError."""
    names = {kind: kind.removesuffix("_prefix") for kind in kinds}
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in names.values()}
    with saying(f"{path} cannot be read", kind=ModelError), open_regular(path) as f:
        while chunk := f.read(CHUNK):
            for one in sums.values():
                one.update(chunk)
    return {kind: sums[name].hexdigest()[: 8 if kind != name else None] for kind, name in names.items()}


def whose(sums: dict[str, str]) -> str | None:
    """The name of the published net that a file is, by the best checksum that is stated."""
    for name, found in catalogue().items():
        if (kind := found.strongest) and sums.get(kind) == found.checksums[kind].value:
            return name
    return None


def published_as(path: Path) -> Entry | None:
    """The published net that a file is, whatever its name; hashed if its size is that of one. Raises ModelError."""
    with saying(f"{path} cannot be read", kind=ModelError):
        size = path.stat().st_size
    kinds = {found.strongest for found in catalogue().values() if found.fits(size)} - {None}
    name = whose(digests(path, [kind for kind in SUMS if kind in kinds])) if kinds else None
    return catalogue()[name] if name else None
