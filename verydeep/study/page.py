"""A study as one self-contained page, study.html, and as Markdown, study.md."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from verydeep.files.disk import write_text
from verydeep.report.figures import svg_uri
from verydeep.report.page import other_fields, rendered
from verydeep.study import tables
from verydeep.study.claims import LEVEL, judgements
from verydeep.study.figures import over_depth, over_scales


def write_pages(out: Path, study: Mapping[str, Any]) -> Path:
    """Writes study.html and study.md of a study's record; returns the page's path. Raises RunError."""
    facts, results = study["stages"], study["results"]
    drawn = {"depth": over_depth(results, facts), "scales": over_scales(results, facts)}
    shown = study_facts(study) | {
        "charts": {name: svg_uri(figure) for name, figure in drawn.items() if figure},
        "stages": tables.stage_table(tables.TRAINED, [{**f, "name": name} for name, f in facts.items()]),
        "own": other_fields(study["config"]), "command": repeating(study),
    }  # fmt: skip
    for suffix in ("md", "html"):
        write_text(out / f"study.{suffix}", rendered(f"study/page.{suffix}.j2", shown))
    return out / "study.html"


def study_text(study: Mapping[str, Any], out: Path) -> str:
    """Tables and verdicts for a terminal."""
    return rendered("study/summary.txt.j2", study_facts(study) | {"page": out / "study.html"}).rstrip()


def study_facts(study: Mapping[str, Any]) -> dict[str, Any]:
    """What the page and the terminal show alike."""
    facts, results = study["stages"], study["results"]
    judged = judgements(results, facts)
    made = {j.claim: list(chain(*j.outcomes.values())) for j in judged}
    return {
        "study": study, "judged": judged, "tables_of_paper": tables.tables_of_paper(results, facts),
        "comparisons": [(c.sentence, tables.comparison_table(c.kind, own, facts)) for c, own in made.items() if own],
        "unlearnt": unlearnt(results), "made": len({o.comparison for o in chain(*made.values())}), "level": LEVEL,
        "machines": list({str(m): m for m in study.get("machines", [study["made_with"]])}.values()),
        "maps": tables.map_sizes(results), "dense": tables.much_worse(results), "border_share": tables.border_share,
    }  # fmt: skip


def unlearnt(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stages that have learnt nothing, whatever the test."""
    said = dict[str, list[str]]()
    for r in results:
        if len(r["stages"]) == 1:
            said.setdefault(r["stages"][0], []).append(r.get("doubt", ""))
    return [name for name, doubts in said.items() if all(doubts)]


def repeating(study: Mapping[str, Any]) -> str:
    """The command that goes on with this study or repeats it."""
    options = {
        "config": "study.yaml", "out": "NEW",
        "nets": ",".join(study["nets"]), "seeds": ",".join(map(str, study["seeds"])),
        **{name: study[name] for name in ("train_scales", "tuning_epochs", "crops_photos", "test_photos")},
    }  # fmt: skip
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["verydeep", "study", study["data"], *words])
