"""A net as a file that other programs answer from. The door: what the verb uses."""

import sys

from verydeep import CalledAsVerb
from verydeep.export.export import export_model, export_text

__all__ = ["export_model", "export_text"]
sys.modules[__name__].__class__ = CalledAsVerb
