"""What the data doctor can find, and what the program does about each: findings.csv, the contract of `verydeep check`.

Severities: error, training would stop; warning, numbers will suffer; note, handled. Options stand behind their verb.
"""

import csv
from importlib import resources
from typing import Any

from verydeep.words import unit

MOST_EXAMPLES = 1000  # kept of each finding; the count is always of all
Finding = dict[str, Any]  # an entry of `findings` in the record
TABLE = resources.files("verydeep.doctor").joinpath("findings.csv").read_text(encoding="utf-8")
KINDS = {kind["id"]: kind for kind in csv.DictReader(TABLE.splitlines())}  # in the order they are told


def finding(
    id: str, count: int, examples: list[dict[str, Any]], detail: str = "", groups: int | None = None
) -> Finding:
    """`detail`: figures in a few words; `groups`: how many, of copies."""
    named = unit(KINDS[id]["unit"], count)
    return {**KINDS[id], "count": count, "unit": named, "groups": groups, "detail": detail, "examples": examples}


def of_names(id: str, names: list[str], detail: str = "") -> list[Finding]:
    """None or one finding of things by name."""
    return [finding(id, len(names), [{"name": n} for n in names[:MOST_EXAMPLES]], detail)] if names else []
