"""Words in pictures, in fonts that have their signs."""

from contextlib import suppress
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont


def put_words(pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, size: int, colour: str, width: int) -> int:
    """Writes what fits, the middle left out where it does not; returns how wide it is."""
    text, left = words, len(words)
    while left > 1 and length_of(text, size) > width:
        left -= 1
        text = f"{words[: (left + 1) // 2]}…{words[len(words) - left // 2 :]}"
    x = float(at[0])
    for part, font in in_fonts(text, size):
        pen.text((x, at[1] + size), part, colour, font, "ls")
        x += font.getlength(part)
    return round(x) - at[0]


def length_of(words: str, size: int) -> float:
    return sum(font.getlength(part) for part, font in in_fonts(words, size))


def in_fonts(words: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """A text in parts, each with a font that has its signs: fonts of one script may lack the digits."""
    parts = groupby(words, lambda sign: font_file(sign) or own_font())
    return [("".join(signs), ImageFont.truetype(file, size)) for file, signs in parts]


def drawable(words: str) -> bool:
    return all(map(font_file, words))


@cache
def font_file(sign: str) -> str | None:
    """A font that has a sign: matplotlib's own, or one of the system's; None where there is none."""
    if sign.isspace() or ord(sign) in signs_of(own_font()):
        return own_font()
    return next((file for file in system_fonts() if ord(sign) in signs_of(file)), None)


def own_font() -> str:
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@cache
def system_fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    return tuple(sorted(font_manager.findSystemFonts()))


@lru_cache(256)
def signs_of(file: str) -> frozenset[int]:
    """The characters that a font can draw; none where it cannot be read."""
    from matplotlib import ft2font

    with suppress(OSError, RuntimeError):
        return frozenset(ft2font.FT2Font(file).get_charmap())
    return frozenset()
