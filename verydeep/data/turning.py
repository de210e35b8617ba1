"""How EXIF says that a photo is to be turned: by pixels, and by its size alone."""

import tempfile

from PIL import Image

from verydeep.data import limits
from verydeep.data.values import STRIP

TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's numbers to Image.Transpose's
FROM_THE_FAR_END = (1, 3, 4, 6)  # turns after which the first rows come last
IN_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # the chunk and the texts that may say it


def exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block says nothing; the pixels are still good
        return 1


def upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """The photo turned as EXIF says, never with a second one of more than 30 megapixels beside it."""
    if orientation not in TURNS:
        return rgb
    how = Image.Transpose(TURNS[orientation])
    return rgb.transpose(how) if 8 * rgb.width * rgb.height <= limits.MEMORY else turned_through_file(rgb, how)


def turned_through_file(rgb: Image.Image, how: Image.Transpose) -> Image.Image:
    """As rgb.transpose(how), strip by strip; `rgb` gives back its memory before the new photo takes its own."""
    width, height = rgb.size
    step = max(1, STRIP // width)
    strips = [(top, min(step, height - top)) for top in range(0, height, step)]
    swaps, far = how >= Image.Transpose.ROTATE_270 or how == Image.Transpose.ROTATE_90, how in FROM_THE_FAR_END
    with tempfile.TemporaryFile() as file:
        for top, rows in strips:
            file.write(rgb.crop((0, top, width, top + rows)).tobytes())
        rgb.close()
        file.seek(0)
        turned = Image.new("RGB", (height, width) if swaps else (width, height))
        for top, rows in strips:
            strip = Image.frombytes("RGB", (width, rows), file.read(3 * width * rows)).transpose(how)
            place = height - top - rows if far else top
            turned.paste(strip, (place, 0) if swaps else (0, place))
    return turned


def upright_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """A stored size once it is turned as EXIF says; and the other way round."""
    return size[::-1] if 5 <= turn <= 8 else size
