"""What training does with a photo that cannot be read."""

import csv
import io
import sys
from pathlib import Path

from verydeep.data.record import Photos
from verydeep.errors import PhotoError, RunError
from verydeep.files.disk import append, exists, open_regular
from verydeep.run import Run


class Skipped:
    """Policy for bad photos: stop with the photo's name, or skip it, listing each once in skipped.csv.

    Only the first rank writes there; what another one skips it says at once and hands over at the end of the epoch.
    """

    def __init__(self, run: Run, photos: Photos, policy: str) -> None:
        self.file = run.path / "skipped.csv"
        self.run, self.photos, self.policy = run, photos, policy
        self.known = listed(self.file) if exists(self.file) else set()
        self.unlisted: list[tuple[str, str]] = []

    def __call__(self, id: int, e: PhotoError) -> None:
        if self.policy == "stop":
            raise PhotoError(e.photo, f"{e.reason}; repair or remove it, or add --bad_photos skip") from e
        key = self.photos.keys[id]
        if self.run.writes:
            self.list(key, e.reason)
        elif key not in self.known:
            self.known.add(key)
            self.unlisted.append((key, e.reason))
            print(f"skipped {key}: {e.reason}", file=sys.stderr, flush=True)

    def list(self, key: str, reason: str) -> None:
        if key not in self.known and self.run.writes:
            self.known.add(key)
            csv.writer(row := io.StringIO()).writerow((key, reason))
            append(self.file, row.getvalue())
            self.run.say(f"skipped {key}: {reason}")


def listed(file: Path) -> set[str]:
    """The photos that a run has skipped before. Raises RunError."""
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8", errors="replace", newline="") as lines:
            return {row[0] for row in csv.reader(lines) if row}
    except (OSError, csv.Error) as e:
        raise RunError(f"{file} cannot be read ({e}); repair or remove it") from e
