"""Testing (section 3.2)."""

import sys

from verydeep import Room

sys.modules[__name__].__class__ = Room
