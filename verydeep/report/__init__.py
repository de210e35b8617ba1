"""What came out, for people: tables, figures, one self-contained page."""
