"""Distances that match the eye, and layers of a net, as modules that pass gradients into the picture.

    from verydeep import perceptual
    from verydeep.weights import load_describing

    net = load_describing("oxford-d-convolutions")
    distance = perceptual.LPIPS(net, "lpips/weights/v0.1/vgg.pth", range="0-1")
    distance(a, b)            N distances of pictures N x 3 x H x W, float, RGB, 0 to 1

All take pictures in the range that they were made for and refuse others. Colours must be RGB: blue first is a picture
too, so nothing here can see it.
"""

from verydeep.perceptual.distances import DISTS, LPIPS
from verydeep.perceptual.losses import Content, Style
from verydeep.perceptual.taps import Range, Taps

__all__ = ["DISTS", "LPIPS", "Content", "Range", "Style", "Taps"]
