"""By what a labelling tool's file is known."""

import re
from pathlib import Path

from verydeep.collections.marks_yolo import LINE

SIGNS = {  # ending -> tool -> what its files have near their beginning
    ".xml": {
        "Pascal VOC": rb"\s*(?:<[?!][^>]*>\s*)*<annotation[\s>]",
        "CVAT": rb"\s*(?:<[?!][^>]*>\s*)*<annotations[\s>]",
    },
    ".json": {
        "COCO": rb'\s*\{.*"(?:images|annotations)"\s*:\s*\[',
        "Label Studio": rb'\s*\[\s*\{.*"(?:annotations|completions|rectanglelabels|polygonlabels)"\s*:\s*\[',
        "LabelMe": rb'\s*\{.*"(?:shapes"\s*:\s*\[|imageData"\s*:)',
    },
    ".txt": {"YOLO": rb"\s*" + LINE.pattern.encode() + rb"\s*(?:[\r\n]|$)"},
}
HEAD = 1 << 18  # bytes in which a file says what it is


def tools_of(path: Path) -> list[str]:
    """The tool that wrote a file, by its first bytes, or none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return []
    return [tool for tool, sign in SIGNS.get(path.suffix.lower(), {}).items() if re.match(sign, head, re.DOTALL)][:1]
