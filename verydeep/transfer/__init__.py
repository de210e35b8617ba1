"""How far a net goes on other data without more training: appendix B. The door: what other rooms use."""

import sys

from verydeep import CalledAsVerb
from verydeep.transfer.measures import Precision, average_precision, class_recall
from verydeep.transfer.protocol import transfer_models
from verydeep.transfer.svm import CONSTANTS, Svm, fitted
from verydeep.transfer.table import transfer_text

__all__ = [
    "CONSTANTS", "Precision", "Svm", "average_precision", "class_recall", "fitted", "transfer_models",
    "transfer_text",
]  # fmt: skip
sys.modules[__name__].__class__ = CalledAsVerb
