"""What a net sees in photos, as numbers (appendix B). The door: what other rooms use."""

from verydeep.describe.descriptor import Rows, Several, described, descriptors, last_hidden

__all__ = ["Rows", "Several", "described", "descriptors", "last_hidden"]
