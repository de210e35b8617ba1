"""What a test says in a sentence: how good, how sure, and compared with guessing."""

from collections.abc import Mapping, Sequence
from typing import Any

from verydeep.evaluate.judge import FEW, cells_of, interval, judged, main_test

SHOWN = {"centre": " by the centre crop", "dense": " shown whole (dense)"}


def main_result(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of a model's results, alone and on its own data, the one that it is judged by."""
    own = [r for r in results if "models" not in r and r["data"] == results[0]["data"]]
    for telling in ({"split": "test"}, {"split": "val"}, {"limit": None}):  # where there are such
        own = [r for r in own if r.items() >= telling.items()] or own
    return own[main_test([(r["protocol"], r["scales"], r["crop"]) for r in own])] if own else None


def verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result, as plain values: learnt or not, in a sentence or two; nothing where no photo was tested."""
    photos, errors, classes = result["photos"], result["top1_errors"], result["classes"]
    if not photos:
        return {"learnt": None, "words": "no photo was tested"}
    low, high = interval(errors, photos)
    judgement = judged(cells_of(result), classes)
    more = "--folds 5 would test every photo that is there"
    few = f"Only {photos:,} photos were tested, which tells little; {more}. " if photos < FEW else ""
    how = SHOWN.get(result["protocol"], "")
    words = (
        f"{few}{100 * errors / photos:.1f} % errors on {photos:,} {result['split']} photos{how} "
        f"(95 % interval {low:.1f} to {high:.1f} %); guessing would give {judgement.guessing:.1f} %."
    )
    doubt = f"Nothing is learnt: {judgement.doubt}. " if judgement.doubt else ""
    if one := len(classes) > 1 == len({truth for truth, _, _ in cells_of(result)}):
        doubt = "All photos of the test are of one class, so it does not tell whether the classes are told apart. "
    return {
        "learnt": None if one else not judgement.doubt, "words": doubt + words,
        "doubt": doubt.strip(), "error": round(100 * errors / photos, 4),
        "interval": [low, high], "guessing": judgement.guessing, "protocol": result["protocol"],
    }  # fmt: skip


def doubts(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each model alone, in a line, why its test tells little of it; of a good test nothing."""
    alone = {r["model"]: [o for o in results if o.get("model") == r["model"]] for r in results if "models" not in r}
    said = {name: verdict(main_result(own) or own[-1]) for name, own in alone.items()}
    return [f"{name}: {v['doubt']}" for name, v in said.items() if v.get("doubt")]
