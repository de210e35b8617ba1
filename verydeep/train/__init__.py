"""Training (section 3.1)."""

import sys

from verydeep import CalledAsVerb

sys.modules[__name__].__class__ = CalledAsVerb
