"""A study as one self-contained page, study.html, and as Markdown, study.md."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from verydeep.config import Config, plain
from verydeep.files.disk import write_text
from verydeep.report import figures, tables
from verydeep.study import figures as study_figures
from verydeep.study import tables as study_tables
from verydeep.study.claims import JITTER, LEVEL, SEEDS_THAT_AGREE, Finding, findings, said

PROTOCOL_WORDS = {
    "dense": "dense, the paper's way",
    "centre": "centre crop",
    "crops": "crops",
    "both": "crops and dense",
}
DEPTH_WORDS = (
    "Left: the nets trained at the first S, on the photos of the tables above. Right: the same nets in Table 3 of the paper. "
    "Lines pass through the means of the seeds; where there are several seeds, each is a dot. C and D have 16 weight layers both."
)
SCALES_WORDS = (
    "One test scale at a time, on the photos of Table 3; one line for each way to train. Lines pass through the means of the seeds; "
    "where there are several seeds, each is a dot."
)


def write_pages(out: Path, study: Mapping[str, Any]) -> Path:
    """Writes study.html and study.md of a study's record (as study.json holds it); returns the page's path. Raises RunError."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("verydeep.study", "."),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tables=tables, study_tables=study_tables, said=said, zip=zip)
    shown = gather(study)
    write_text(out / "study.html", environment.get_template("page.html.j2").render(shown))
    write_text(out / "study.md", environment.get_template("page.md.j2").render(shown))
    return out / "study.html"


def gather(study: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the two templates show."""
    facts, results = study["stages"], study["results"]
    charts = [
        (title, words, figures.svg_uri(figure))
        for title, words, figure in (
            ("Error and depth", DEPTH_WORDS, study_figures.depth(results, facts)),
            ("Error and test scale", SCALES_WORDS, study_figures.over_scales(results, facts)),
        )
        if figure
    ]
    paper = plain(Config())
    own = {name: value for name, value in study["config"].items() if value != paper[name]}
    found = findings(results, facts)
    return {
        "study": study, "facts": facts, "findings": found, "needs": {f.claim.sentence: needs(f) for f in found},
        "tables_of_the_paper": study_tables.all_tables(results, facts), "charts": charts, "map_note": study_tables.map_note(results),
        "dense_note": study_tables.dense_note(results),
        "splits": split_words(study), "seed_words": seed_words(study["seeds"]), "rules": rules(found),
        "protocol_words": PROTOCOL_WORDS, "own": yaml.safe_dump(own, sort_keys=False).strip(), "command": command(study),
    }  # fmt: skip


def needs(finding: Finding) -> str:
    """What a claim needs to be tested."""
    rows = [row for c in finding.claim.comparisons for row in c[:2]]
    nets = sorted({net for row in rows for net in row.nets.split("+")})
    return f"it needs {', '.join(nets[:-1])} and {nets[-1]}" + (
        " with jitter" if all(row.way == JITTER for row in rows) else ""
    )


def split_words(study: Mapping[str, Any]) -> str:
    """Which photos steered the training and which were counted, so that a leak can be seen."""
    photos, split = study["photos"], study["split"]
    steered = (
        "The rate dropped after fixed epochs (drop_at)"
        if study["config"]["drop_at"]
        else "The rate dropped when the error stopped improving"
    )
    words = f"{steered}, and the best epoch of each stage was chosen, on the {photos['val']:,} validation photos (split val). "
    if split == "val":
        return words + (
            "The tables and claims below count the SAME validation photos, because the data has no test split. The paper does so too, "
            "but the figures are a little too good: give the data a test split for figures without a leak."
        )
    first = f"first {tested:,} of the " if (tested := study["test_photos"]) and tested < photos[split] else ""
    return (
        words
        + f"The tables and claims below count the {first}{photos[split]:,} photos of the split {split}, which no training looked at."
    )


def seed_words(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return (
            "One seed was trained. So each verdict is about the two nets that were compared, not about the method: "
            f"another seed may turn it. Add seeds with --seeds; from {SEEDS_THAT_AGREE} on all of them must agree."
        )
    agree = (
        "All of them must have the same sign"
        if len(seeds) >= SEEDS_THAT_AGREE
        else "Two cannot say much about the method"
    )
    return f"{len(seeds)} seeds were trained ({', '.join(map(str, seeds))}). {agree}."


def rules(found: list[Finding]) -> str:
    """How a verdict is reached, and how many were tried."""
    tried = sum(len(own) for f in found for own in f.outcomes.values())
    return (
        "Each comparison is McNemar's test on the top-1 answers to the same photos: of the photos that only one of two nets had right, "
        f"is the share of each a half? With several seeds a photo counts for the net that more seeds had right. Held: p < {LEVEL:g} in "
        f"the paper's direction in every comparison that could be made. Not held: p < {LEVEL:g} the other way in one of them. Undecided: "
        "neither. A claim that something does not help is held as long as no gain is shown; that does not show that there is none, and the "
        f"95 % interval says how large a gain could have been missed. {tried} comparisons were made and p is not corrected for that: "
        f"about one in {round(1 / LEVEL)} would fall below {LEVEL:g} by chance."
    )


def command(study: Mapping[str, Any]) -> str:
    """The command that goes on with this study or repeats it."""
    words = [
        "verydeep",
        "study",
        study["data"],
        "--config",
        "study.yaml",
        "--out",
        "NEW",
        "--nets",
        ",".join(study["nets"]),
    ]
    words += ["--seeds", ",".join(map(str, study["seeds"])), "--train_scales", study["train_scales"]]
    for name in ("tuning_epochs", "crops_photos", "test_photos"):
        words += [f"--{name}", str(study[name])] if study[name] is not None else []
    return shlex.join(words)
