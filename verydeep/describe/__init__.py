"""What a net sees in photos, as numbers (appendix B). The door: what other rooms use."""

import sys

from verydeep import CalledAsVerb
from verydeep.describe.describer import Describer, Manner
from verydeep.describe.descriptor import Rows, Several, described, descriptors, last_hidden, layers_in, own_scales
from verydeep.describe.folder import describe_into, engine_in
from verydeep.describe.forms import write_dissimilarities, write_form
from verydeep.describe.gram import MOST_COMPARED
from verydeep.describe.neighbours import similar_photos

__all__ = [
    "MOST_COMPARED", "Describer", "Manner", "Rows", "Several", "describe_into", "described", "descriptors",
    "engine_in", "last_hidden", "layers_in", "own_scales", "similar_photos", "write_dissimilarities", "write_form",
]  # fmt: skip
sys.modules[__name__].__class__ = CalledAsVerb
