"""Fuzzing of the decoder: any bytes give an RGB photo or a PhotoError, within 2 s and 256 MB.

    python tests/fuzz/fuzz_photo.py -max_total_time=60

Options are libFuzzer's. The seeds are made here, in a temporary folder, unless a folder is named.
"""

from __future__ import annotations

import io
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["verydeep.data", "PIL"]):
    from PIL import Image

    from verydeep.data import photo
from verydeep.errors import PhotoError

SECONDS, MEMORY = 2.0, 256_000_000
SLOWER = 4.0  # instrumented Python beside plain
UNIT = 1 if sys.platform == "darwin" else 1024
peak = 0


def seeds() -> dict[str, bytes]:
    ramp = Image.linear_gradient("L").resize((40, 30))
    colour = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp))
    turned = Image.Exif()
    turned[274] = 6
    ways: dict[str, tuple[Image.Image, str, dict[str, object]]] = {f.lower(): (colour, f, {}) for f in photo.FORMATS}
    ways |= {
        "progressive": (colour, "JPEG", {"progressive": True}),
        "turned": (colour, "JPEG", {"exif": turned}),
        "cmyk": (colour.convert("CMYK"), "JPEG", {}),
        "restarts": (colour, "JPEG", {"restart_marker_blocks": 1}),
        "palette": (colour.quantize(16), "PNG", {"transparency": bytes(16)}),
        "wide": (ramp.convert("I").convert("I;16"), "PNG", {}),
        "alpha": (Image.merge("RGBA", (*colour.split(), ramp)), "PNG", {}),
        "animated-gif": (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        "animated-webp": (colour, "WEBP", {"save_all": True, "append_images": [colour.rotate(90)]}),
        "lossless": (colour, "WEBP", {"lossless": True}),
    }
    ways |= {
        c: (colour, "TIFF", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")
    }
    ways["group4"] = (ramp.convert("1"), "TIFF", {"compression": "group4"})
    return {name: saved(*way) for name, way in ways.items()}


def saved(image: Image.Image, format: str, options: dict[str, object]) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def decode_both_ways(data: bytes) -> None:
    """The outcome is the same at full size and scaled. The peak of memory is the process's: it only grows."""
    global peak
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    given = [timed(lambda side=side: photo.decode(data, "some.jpg", side)) for side in (None, 64)]
    if given[0] != given[1]:
        raise AssertionError(f"a photo at full size: {given[0]}; scaled: {given[1]}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT - peak
    if grown > MEMORY:
        raise AssertionError(f"{grown >> 20} MiB more memory")


def timed(decode: Callable[[], Image.Image]) -> bool:
    began = time.process_time()
    try:
        photo_given = decode().mode == "RGB"
        assert photo_given
    except PhotoError:
        photo_given = False
    if (seconds := time.process_time() - began) > SECONDS * SLOWER:
        raise AssertionError(f"{seconds:.1f} s")
    return photo_given


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        corpus = [a for a in sys.argv[1:] if not a.startswith("-")]
        if not corpus:
            for name, data in seeds().items():
                (Path(folder) / name).write_bytes(data)
            corpus = [folder]
        options = [a for a in sys.argv[1:] if a.startswith("-")]
        atheris.Setup(
            [sys.argv[0], "-max_len=8192", f"-artifact_prefix={tempfile.gettempdir()}/", *options, *corpus],
            decode_both_ways,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
