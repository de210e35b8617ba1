"""Fetches the file of a published net: mirror after mirror, going on where a line broke, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from verydeep.errors import ModelError
from verydeep.files.disk import flush_folder
from verydeep.progress import Progress
from verydeep.weights.catalogue import Entry, by_hand, check_file, differing, strongest, words

TRIES = 3  # of one mirror, each going on where the last stopped
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 18
LARGEST = 1 << 30  # bytes; the largest of the catalogue has 548 MiB
MB = 10**6


class Broken(Exception):
    """A mirror that did not give the file, and why."""


class Part(NamedTuple):
    """A file that is not whole yet, and beside it from where it comes and how the server names that version."""

    file: Path
    note: Path

    @staticmethod
    def of(target: Path) -> Part:
        return Part(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json"))

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch(entry: Entry, progress: Progress | None = None) -> Path:
    """The file of a published net in the cache, fetched if it is not there; a file whose checksum is wrong never gets its name.

    Proxies are taken from the usual environment variables. With VERYDEEP_OFFLINE=1 nothing is asked of the network. Raises ModelError.
    """
    target, progress = entry.path, progress or Progress()
    if entry.builtin or target.is_file():
        check_file(entry, target)
        warn_of_weak_checksum(entry, target)
        return target
    if os.environ.get("VERYDEEP_OFFLINE", "0") not in ("", "0"):
        raise ModelError(
            f"{entry.name}: VERYDEEP_OFFLINE is set and {target} is not there; {by_hand(entry)}, from {places(entry)}"
        )
    why = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target):
            begun = read_note(Part.of(target)).get("url")
            for url in sorted(
                entry.urls, key=lambda url: url.value != begun
            ):  # what was begun goes on before others are tried
                try:
                    from_mirror(entry, url.value, target, progress)
                except Broken as e:
                    why.append(f"{url.value}: {e}")
                    continue
                for broken in why:
                    print(f"warning: {broken}; it came from {url.value}", file=sys.stderr)
                return target
    except OSError as e:
        raise ModelError(
            f"{target} cannot be written ({e.strerror or e}); set VERYDEEP_WEIGHTS to a folder with {entry.size // MB} MB"
        ) from e
    raise ModelError(
        f"{entry.name} cannot be fetched ({'; '.join(why)}){proxied(entry)}; {by_hand(entry)}, from one of these addresses"
    )


def proxied(entry: Entry) -> str:
    """Which variables lead elsewhere; their values may hold a password."""
    schemes = {url.value.partition(":")[0] for url in entry.urls} & set(urllib.request.getproxies())
    names = " and ".join(f"{scheme.upper()}_PROXY" for scheme in sorted(schemes))
    return f"; with {names} set it is asked of that proxy, which may be the cause" if names else ""


def places(entry: Entry) -> str:
    return " or ".join(url.value for url in entry.urls)


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """No other process fetches the same file meanwhile."""
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise ModelError(f"{target} is being fetched by another process; wait for it") from e
        yield


def from_mirror(entry: Entry, url: str, target: Path, progress: Progress) -> None:
    """One mirror, tried again where the line breaks. Raises Broken."""
    part, why = Part.of(target), ""
    for _ in range(TRIES):
        try:
            download(url, part, entry, progress)
            break
        except (HTTPException, OSError) as e:
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            why = f"{getattr(e, 'reason', None) or e or type(e).__name__}"
            if isinstance(e, urllib.error.HTTPError):
                why = f"the server says {e.code} {e.reason}"
                if e.code < 500 and e.code != 416:
                    raise Broken(why) from e
    else:
        raise Broken(why)
    if wrong := differing(entry, part.file):
        part.remove()
        raise Broken(f"the file is not the published one ({wrong}), and was deleted")
    with part.file.open("rb+") as f:
        os.fsync(f.fileno())
    part.file.replace(target)
    part.note.unlink(missing_ok=True)
    flush_folder(target.parent)
    warn_of_weak_checksum(entry, target)


def download(url: str, part: Part, entry: Entry, progress: Progress) -> None:
    """Fills the part, from where an earlier try stopped if the server still has that version. Raises OSError and HTTPException."""
    if not url.startswith(("http://", "https://")):
        raise Broken("only http:// and https:// addresses are fetched")
    note = read_note(part)
    begun = part.file.stat().st_size if note.get("url") == url and part.file.is_file() else 0
    headers = {"User-Agent": "verydeep"} | ({"Range": f"bytes={begun}-", "If-Range": note["version"]} if begun else {})
    try:
        answer = urllib.request.build_opener().open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )  # proxies of this moment
    except urllib.error.HTTPError as e:
        if e.code == 416 and strongest(entry) and not differing(entry, part.file):
            return  # a process was ended when it had all
        if e.code == 416:  # the part is longer than the file, or another
            part.remove()
        raise
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            begun = 0
        length = answer.headers.get("Content-Length", "")
        total = begun + int(length) if length.isdecimal() else None
        if total and total > LARGEST:
            raise Broken(f"the server offers {total:,} bytes, expected about {entry.size:,}")
        write_note(part, url, answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        with (
            part.file.open("r+b" if begun else "wb") as f,
            progress.bar((total or entry.size) // MB, entry.name, begun // MB, "MB") as advance,
        ):
            f.seek(begun)
            done = begun
            while chunk := answer.read(CHUNK):
                f.write(chunk)
                advance((done + len(chunk)) // MB - done // MB, "")
                done += len(chunk)
                if done > LARGEST:
                    raise Broken(f"the server sends more than {LARGEST:,} bytes, expected about {entry.size:,}")
        if total is not None and done < total:
            raise OSError(f"the line broke after {done:,} of {total:,} bytes")


def read_note(part: Part) -> dict[str, Any]:
    """From where a part comes; nothing where that is not known, or the server cannot tell one version from another."""
    try:
        note = json.loads(part.note.read_text(encoding="utf-8"))
        return (
            note if isinstance(note, dict) and note.get("version") and not str(note["version"]).startswith("W/") else {}
        )
    except (OSError, ValueError):
        return {}


def write_note(part: Part, url: str, version: str) -> None:
    part.note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")


def warn_of_weak_checksum(entry: Entry, path: Path) -> None:
    kind = strongest(entry)
    if kind not in ("sha256", None) and not entry.builtin:
        print(f"warning: of {path} only the {words(str(kind))} is known, and it is right", file=sys.stderr)
    elif kind is None and not entry.builtin:
        print(f"warning: no checksum of {path} is known", file=sys.stderr)
