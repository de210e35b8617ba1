"""The model (sections 2.1 to 2.3)."""
