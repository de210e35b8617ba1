"""What a net looks at in a photo: saliency, class maps, occlusion. The door: what other rooms use.

It is called as the verb too: `verydeep.explain("runs/mine", ("cat.jpg",), out="seen")`.
"""

import sys

from verydeep import CalledAsVerb
from verydeep.explain.maps import METHODS, Explained, Method, explain_photo, saliency_cost
from verydeep.explain.photos import class_number, explain_photos
from verydeep.explain.pictures import heat_of, heated, seen_in

sys.modules[__name__].__class__ = CalledAsVerb

__all__ = [
    "METHODS", "Explained", "Method", "class_number", "explain_photo", "explain_photos", "heat_of", "heated",
    "saliency_cost", "seen_in",
]  # fmt: skip
