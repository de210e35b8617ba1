"""Testing (section 3.2)."""

import sys

from verydeep import CalledAsVerb

sys.modules[__name__].__class__ = CalledAsVerb
