"""A file from one of its addresses: going on where a line broke, and checked before it gets its name (decision 13)."""

import errno
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from verydeep.errors import VeryDeepError
from verydeep.files.disk import flush_folder, locked, saying
from verydeep.files.package import PACKAGE, from_package
from verydeep.progress import Progress

TRIES = 3  # of one address, each going on where the last stopped
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 18
MB = 10**6
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Wanted(NamedTuple):
    """A file to fetch. `check` reads it, still under another name, and raises ValueError for a wrong one."""

    target: Path
    urls: tuple[str, ...]  # of the same file, tried in turn
    size: int  # bytes, about
    most: int  # bytes; of a server that sends more nothing is taken
    check: Callable[[Path], object]
    kind: type[VeryDeepError]  # of the error
    elsewhere: str  # what to try where the target cannot be written


def download(wanted: Wanted, progress: Progress | None = None) -> None:
    """Fetches a file whole or not at all, while no other process fetches it. Raises an error of wanted.kind.

    Proxies are taken from the usual environment variables. With VERYDEEP_OFFLINE=1 nothing is asked of the network.
    """
    target, part, why = wanted.target, wanted.target.with_name(f"{wanted.target.name}.part"), list[str]()
    by_hand = f"put {target.name} into {target.parent} by hand, from"
    if os.environ.get("VERYDEEP_OFFLINE", "0") not in ("", "0"):
        raise wanted.kind(f"VERYDEEP_OFFLINE is set and {target} is not there; {by_hand} {' or '.join(wanted.urls)}")
    with saying(f"{target} cannot be written", wanted.elsewhere, wanted.kind):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f".{target.name}.lock")) as ours:
            if not ours:
                raise wanted.kind(f"{target} is being fetched by another process; wait for it")
            begun = origin_of(part)[0]
            for url in sorted(wanted.urls, key=lambda url: url != begun):
                if (wrong := from_address(url, part, wanted, progress or Progress())) is None:
                    with part.open("rb+") as f:
                        os.fsync(f.fileno())
                    part.replace(target)
                    remove_part(part)
                    flush_folder(target.parent)
                    for one in why:
                        print(f"warning: {one}; it came from {url}", file=sys.stderr)
                    return
                why.append(f"{url}: {wrong}")
    raise wanted.kind(
        f"{target.name} cannot be fetched ({'; '.join(why)}){proxied(wanted.urls)}; {by_hand} one of these addresses"
    )


def from_address(url: str, part: Path, wanted: Wanted, progress: Progress) -> str | None:
    """Fills the part, asking again where the line breaks; returns what went wrong. Raises OSError of the disk."""
    why = ""
    for _ in range(TRIES):
        try:
            if url.startswith(PACKAGE):
                from_package(url, part, wanted.most)
            else:
                receive(url, part, wanted, progress)
            break
        except urllib.error.HTTPError as e:
            why = f"the server says {e.code} {e.reason}"
            if e.code == 416:  # the part is longer than the file
                remove_part(part)
            elif e.code < 500:
                return why
        except ValueError as e:
            return str(e)
        except (HTTPException, OSError) as e:
            if isinstance(e, OSError) and e.errno in OF_THE_DISK:
                raise
            why = str(getattr(e, "reason", None) or e or type(e).__name__)
    else:
        return why
    try:
        wanted.check(part)
    except ValueError as e:
        remove_part(part)
        return f"the file is not the published one ({e}), and was deleted"
    return None


def receive(url: str, part: Path, wanted: Wanted, progress: Progress) -> None:
    """One request. Raises OSError and HTTPException, and ValueError where trying again is of no use."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("only http:// and https:// addresses are fetched")
    origin, version = origin_of(part)
    # The last byte is asked for again, so that a part which has all bytes is no special case.
    begun = max(0, part.stat().st_size - 1) if origin == url and part.is_file() else 0
    headers = {"User-Agent": "verydeep"} | ({"Range": f"bytes={begun}-", "If-Range": version} if begun else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener().open(request, timeout=TIMEOUT) as answer:  # by the proxies of this moment
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            begun = 0
        length = answer.headers.get("Content-Length", "")
        done, total = begun, begun + int(length) if length.isdecimal() else 0
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        note_of(part).write_text(f"{url}\n{version}", encoding="utf-8")
        with (
            part.open("r+b" if begun else "wb") as f,
            progress.bar((total or wanted.size) // MB, wanted.target.name, begun // MB, "MB") as advance,
        ):
            f.seek(begun)
            while chunk := answer.read(CHUNK):
                advance((done + len(chunk)) // MB - done // MB, "")
                done += len(chunk)
                if max(done, total) > wanted.most:
                    raise ValueError(f"the server sends {max(done, total):,} bytes, expected about {wanted.size:,}")
                f.write(chunk)
    if done < total:
        raise OSError(f"the line broke after {done:,} of {total:,} bytes")


def note_of(part: Path) -> Path:
    """The file beside a part that says from which address it comes, and how the server calls that version."""
    return part.with_name(f"{part.name}.from")


def origin_of(part: Path) -> tuple[str, str]:
    """Address and version; empty where either is not known, or the version is a weak one, which bytes may differ in."""
    try:
        url, version = note_of(part).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return "", ""
    return (url, version) if version and not version.startswith("W/") else ("", "")


def remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    note_of(part).unlink(missing_ok=True)


def proxied(urls: tuple[str, ...]) -> str:
    """Which variables lead elsewhere; their values may hold a password."""
    schemes = {url.partition(":")[0] for url in urls} & set(urllib.request.getproxies())
    names = " and ".join(f"{scheme.upper()}_PROXY" for scheme in sorted(schemes))
    return f"; with {names} set it is asked of that proxy, which may be the cause" if names else ""
