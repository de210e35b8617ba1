"""What people read: times, counts and tables as text."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Seconds as people say them: less than a second, 42 s, 7 min, 3.5 h, 12 days."""
    if 0 < seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def unit(plural: str, count: int) -> str:
    """What so many things are called."""
    one = {"classes": "class", "entries": "entry", "boxes": "box"}
    return one.get(plural, plural.removesuffix("s")) if count == 1 else plural


def several(count: int, plural: str) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{count:,} {unit(plural, count)}"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)
    )
