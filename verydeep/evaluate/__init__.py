"""Testing (section 3.2)."""
