"""What training does with a photo that cannot be read."""

from __future__ import annotations

import csv
import sys

from verydeep.data.record import Photos
from verydeep.errors import PhotoError
from verydeep.run import Run


class Skipped:
    """Policy for bad photos: stop with the photo's name, or skip it, listing each once in skipped.csv.

    Only the first rank writes there; what another one skips it says at once and hands over at the end of the epoch.
    """

    def __init__(self, run: Run, photos: Photos, policy: str) -> None:
        self.file = run.path / "skipped.csv"
        self.run, self.photos, self.policy = run, photos, policy
        self.known: set[str] = set()
        self.unlisted: list[tuple[str, str]] = []
        if self.file.exists():
            with self.file.open(encoding="utf-8", newline="") as lines:
                self.known = {row[0] for row in csv.reader(lines) if row}

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
            with self.file.open("a", encoding="utf-8", newline="") as out:
                csv.writer(out).writerow((key, reason))
            self.run.say(f"skipped {key}: {reason}")
