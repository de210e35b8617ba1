"""Training (section 3.1)."""

import sys

from verydeep import Room

sys.modules[__name__].__class__ = Room
