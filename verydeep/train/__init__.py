"""Training (section 3.1)."""
