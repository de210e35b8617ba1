"""Bytes to labelled photos to batches (sections 2.1 and 3.1)."""
