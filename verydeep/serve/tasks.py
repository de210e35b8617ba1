"""What each route makes of a photo, by the doors of the rooms that know: the same as on the command line."""

from typing import Any

import numpy as np
from PIL import Image

from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.describe import described, descriptors, last_hidden
from verydeep.errors import PhotoError
from verydeep.evaluate.classify import POSTERIORS
from verydeep.evaluate.frames import frames, windows
from verydeep.evaluate.passes import Settings, Shown, in_view, scorer_of, settled
from verydeep.evaluate.views import View
from verydeep.explain import explain_photo, heat_of
from verydeep.localise import found_on, kept_threshold, locator_of, resized
from verydeep.net.classifier import Classifier, ranked
from verydeep.paper import STRIDE
from verydeep.report.figures import uri
from verydeep.serve.batcher import RouteTask

WHOLE_PHOTOS = 4  # in one turn of the net; each may be of 8:1


def classifying(net: Classifier, protocol: str, settings: Settings) -> RouteTask:
    """asked: how many classes. As `predict` shows photos."""
    c, view = net.contract, View(protocol, net.contract.test_scale)
    shown = Shown(scorer_of(net, settings), c.crop, [view], POSTERIORS[settings.average])

    def compute(made: list[Any]) -> list[Any]:
        values, _ = in_view(shown, [seen for seen, _ in made], view, settings, lambda cost: None)
        best = ranked(values, c.classes, max(top for _, top in made))
        named = [[{"name": name, "probability": p} for name, p in row] for row in best]
        asked = zip(named, made, strict=True)
        return [{"classes": row[:top], "window": window(view, c, seen.size)} for row, (seen, top) in asked]

    most = settings.batch if protocol == "centre" else WHOLE_PHOTOS
    return RouteTask(f"classify {protocol}", lambda image, top: (frames(image, {(view, c.crop)}), top), compute, most)


def window(view: View, c: Contract, size: tuple[int, int]) -> list[float]:
    """What the net saw, (x0, y0, x1, y1) in pixels of the upright photo of this height and width."""
    if view.name == "centre":
        return [round(x, 2) for x in windows(view, c.crop, size, 0, (1, 1)).ravel().tolist()]
    (height, width), most = size, photo.MAX_ASPECT * min(size)
    x, y = max(0, width - most) / 2, max(0, height - most) / 2
    return [x, y, width - x, height - y]


def localising(names: tuple[str, str], nets: tuple[Classifier, Classifier], device: str) -> RouteTask:
    """Of a net of boxes and the classifier; asked: how many classes. As `localise predict` does; raises ModelError."""
    (boxes, model), (where, what) = names, nets
    settings = Settings(device=device, long_photos="middle")
    threshold = kept_threshold(boxes, where, "greedy")
    locator = locator_of({boxes: where}, (model, what), "single", "greedy", settings, threshold)

    def compute(made: list[Any]) -> list[Any]:
        [[image, top]] = made
        [row] = found_on(locator, [image], ["the photo"], top)
        here = image.height, image.width  # of which the answer speaks, where the file has more
        places = [
            {
                "name": p.name,
                "probability": p.probability,
                "box": resized(np.array(p.box), row.size, here).round(1).tolist(),
            }
            for p in row.places
        ]
        return [PhotoError(row.photo, row.error) if row.error else {"places": places}]

    return RouteTask("localise", lambda image, top: (image, top), compute, 1, holds=True)


def describing(net: Classifier, device: str) -> RouteTask:
    """The paper's descriptor (appendix B): the last hidden layer of the whole photo, as `describe` gives it."""
    settings, scale = settled(Settings(device=device, long_photos="middle"), [net]), net.contract.test_scale

    def compute(made: list[Any]) -> list[Any]:
        chunks = described([net], [(scale,)], lambda i: made[i], range(len(made)), settings)
        rows = [row.tolist() for _, said in chunks for row in descriptors(said)]
        return [{"descriptor": row, "tap": last_hidden(net)} for row in rows]

    return RouteTask("describe", lambda image, asked: at_scale(image, scale), compute, WHOLE_PHOTOS)


def explaining(net: Classifier) -> RouteTask:
    """Saliency of the whole photo, or of its middle 8:1; asked: the number of a class, or None for the best."""
    c = net.contract

    def compute(made: list[Any]) -> list[Any]:
        [[image, size, label]] = made
        [one] = explain_photo(net, image, [] if label is None else [label], ["saliency"])
        grey = np.rint(255 * heat_of(one.maps["saliency"], "saliency")).astype(np.uint8)
        about = {"class": c.classes[one.label], "probability": one.probability}
        where = window(View("dense", c.test_scale), c, size)
        return [about | {"window": where, "map": uri(photo.encode(grey), "image/png")}]

    return RouteTask("explain", lambda x, label: (at_scale(x, c.test_scale), (x.height, x.width), label), compute, 1)


def at_scale(image: Image.Image, scale: int) -> Image.Image:
    """The photo, or its middle 8:1, as nets see it whole: rescaled to that once more it stays as it is."""
    return Image.fromarray(photo.middle(image, scale))


def warmed(task: RouteTask, crop: int) -> Any:
    """The answer for a grey photo, by which an engine gets ready."""
    grey = Image.fromarray(np.full((crop, crop + STRIDE, 3), 128, np.uint8))
    return task.compute([task.prepare(grey, 1)])[0]
