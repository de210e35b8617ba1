"""Where is it? Boxes of the paper's nets (appendix A). The door: what other rooms use."""

from verydeep.localise.answer import found_in, found_on, kept_threshold, places_on
from verydeep.localise.boxes import resized
from verydeep.localise.evaluate import evaluate_any, evaluate_boxes
from verydeep.localise.locate import locator_of
from verydeep.localise.page import box_report, results_words
from verydeep.localise.task import train_boxes

__all__ = [
    "box_report", "evaluate_any", "evaluate_boxes", "found_in", "found_on", "kept_threshold", "locator_of", "places_on",
    "resized", "results_words", "train_boxes",
]  # fmt: skip
