"""What one client may cost the others, and how a request is refused: a status, a code for programs, and words."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from verydeep.data.photo import MAX_BYTES
from verydeep.data.reading import workers_for
from verydeep.errors import ConfigError, LongPhotoError, PhotoError
from verydeep.hardware import out_of_memory

WANTED = "expected the bytes of one JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, AVIF or HEIC; try curl --data-binary @cat.jpg"


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds and counts. A photo that is decoded takes 240 MB at most (data/limits.py), times `decoders`."""

    waiting: int = 64  # photos that were received and not answered
    batch: int = 32
    turn: float = 1.0  # that a turn of the net may take, beyond one photo, while others wait
    deadline: float = 10.0  # from the whole photo to its answer
    body: int = MAX_BYTES // 2
    bodies: int = MAX_BYTES  # of all requests together
    body_seconds: float = 30.0
    idle_seconds: int = 10  # of a connection without a request
    patience: float = 15.0  # for the whole headers of a request, and the rest of a body that was refused
    connections: int = 256
    decoders: int = min(4, workers_for(-1, False))
    grace: float = 0.5  # from readiness that fell to the last connection


class Problem(HTTPException):
    """retry: seconds after which the client may try again."""

    def __init__(
        self, status: int, code: str, message: str, retry: float = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        more = {"retry-after": str(math.ceil(retry))} if retry else {}
        super().__init__(status, message, more | dict(headers or {}))
        self.code, self.content = code, {"error": {"code": code, "message": message}}


def problem_of(error: Exception) -> Problem:
    """What an error says to a client; one that nobody foresaw goes to the log alone."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, LongPhotoError):
        return Problem(422, "long_photo", f"the photo {error.reason}; try protocol=centre")
    if isinstance(error, PhotoError):
        return Problem(422, "not_a_photo", f"the photo {error.reason}; {WANTED}")
    if isinstance(error, ConfigError):
        return Problem(400, "wrong_parameter", str(error))
    if out_of_memory(error):
        return Problem(503, "no_memory", "the memory does not hold this now; try again, or a smaller photo", 5)
    logging.getLogger(__name__).error("a request could not be answered", exc_info=error)
    return Problem(500, "internal", "the server failed at this, and its log says why")
