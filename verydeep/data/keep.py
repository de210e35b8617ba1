"""Decoded photos that stay in memory while there is room, so that later epochs need not decode them again."""

from __future__ import annotations

import threading
from dataclasses import replace

from PIL import Image

from verydeep.data.record import Photos

PIXEL = 4  # bytes in Pillow's memory


class Room:
    """Bytes that decoded photos may take, shared by the splits and threads of a run."""

    def __init__(self, bytes: int) -> None:
        self.left = bytes
        self.lock = threading.Lock()

    def take(self, bytes: int) -> bool:
        """Whether they still fit; if so they are taken."""
        with self.lock:
            fits = bytes <= self.left
            self.left -= bytes if fits else 0
        return fits

    def give_back(self, bytes: int) -> None:
        with self.lock:
            self.left += bytes


def kept(photos: Photos, room: Room, smallest_side: int | None = None) -> Photos:
    """The same photos, the first that fit decoded only once. What does not fit is decoded each time: pushing others out would not help,
    because an epoch asks for every photo once.

    With `smallest_side` they may be decoded smaller, as Photos.open says.
    """
    if photos.in_memory:
        return photos
    images: dict[int, Image.Image] = {}

    def content(id: int) -> Image.Image:
        image = images.get(id)
        if image is None:
            image = photos.open(id, smallest_side)
            size = PIXEL * image.width * image.height
            if room.take(size) and images.setdefault(id, image) is not image:  # another thread was faster
                room.give_back(size)
        return image

    return replace(photos, content=content)
