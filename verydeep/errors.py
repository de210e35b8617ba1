"""Every error a user can meet. Each message says what was given, what was expected, and what to try.

VeryDeepError                    exit 1: the work failed
├── ConfigError                  exit 2: wrong usage; names the fields
├── DataError                    photos or labels that cannot be used
│   └── PhotoError               one photo; names the file
│       └── LongPhotoError       one that dense evaluation cannot take whole
├── ModelError                   a model file or name that cannot be used
├── RunError                     a run folder: locked, damaged, or begun with another configuration
├── RankError                    one of several processes lost the others
├── NonFiniteLoss                training diverged; the last good state was kept
└── Interrupted                  exit 130 or 143: SIGINT or SIGTERM; the state was saved
"""


class VeryDeepError(Exception):
    """The root of the tree. `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(VeryDeepError):
    exit_code = 2


class DataError(VeryDeepError):
    pass


class PhotoError(DataError):
    """One photo cannot be used: `photo` is its path or key, `reason` the cause without the name."""

    def __init__(self, photo: str, reason: str):
        super().__init__(f"{photo}: {reason}")
        self.photo = photo
        self.reason = reason


class LongPhotoError(PhotoError):
    """A photo too long for dense evaluation; it can be read."""


class ModelError(VeryDeepError):
    pass


class RunError(VeryDeepError):
    pass


class RankError(VeryDeepError):
    pass


class NonFiniteLoss(VeryDeepError):
    pass


class Interrupted(VeryDeepError):
    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
