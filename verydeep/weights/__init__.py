"""Other people's files and published nets. The door: what other rooms use."""

from verydeep.weights import published
from verydeep.weights.model import load, load_start
from verydeep.weights.read import Features, read_foreign

__all__ = ["Features", "load", "load_start", "published", "read_foreign"]
