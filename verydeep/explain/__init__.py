"""What a net looks at in a photo: saliency, class maps, occlusion. The door: what other rooms use.

It is called as the verb too: `verydeep.explain("runs/mine", ("cat.jpg",), out="seen")`.
"""

import sys

from verydeep import CalledAsVerb
from verydeep.explain.maps import METHODS, Explained, Method, explain_photo, saliency_cost
from verydeep.explain.photos import explain_photos
from verydeep.explain.pictures import heated, seen_in

sys.modules[__name__].__class__ = CalledAsVerb

__all__ = ["METHODS", "Explained", "Method", "explain_photo", "explain_photos", "heated", "saliency_cost", "seen_in"]
