"""Why a study does not show what the paper says, as far as its records tell."""

import math

from verydeep.study.claims import LEVEL, Facts, Kind, Outcome, mcnemar


def reason(kind: Kind, o: Outcome, facts: Facts) -> str:
    """Why a comparison does not show what the paper says, as far as the records tell; nothing where it does."""
    if (o.significant == 1) == (kind == "fewer"):
        return ""
    if o.significant:
        why = ["the other order is seen"]
    elif o.p < LEVEL or {1, -1} <= {*o.signs}:
        why = ["the seeds contradict one another ({})".format(" ".join("-0+"[s + 1] for s in o.signs))]
    else:
        differ, more = o.second_better + o.first_better, abs(o.second_better - o.first_better)
        enough = f"{least:,} would decide" if (least := deciding(differ)) else "of so few none would decide"
        why = [f"{differ:,} photos are answered differently; one net has {more:,} more of them right, {enough}"]
    (first, way, *_), (second, other, *_) = o.comparison
    errors = [
        [f["train_error"] for f in facts.values() if (f["net"], f["way"]) == (net, way) and f["seed"] in o.seeds]
        for net in (first, second)
    ]
    if first != second and way == other and all(errors):
        before, after = (sum(own) / len(own) for own in errors)
        how = "as well as" if f"{after:.1f}" == f"{before:.1f}" else "worse than" if after > before else "better than"
        errors_of_both = f"({after:.1f} and {before:.1f} % errors in the last epoch)"
        why.append(f"{second} has learnt its training photos {how} {first} {errors_of_both}")
    return "; ".join(why)


def deciding(differ: int) -> int | None:
    """Of so many photos that two nets answer differently, how many more one must have right, so that it is decided."""
    some = range(math.isqrt(differ) + (differ - math.isqrt(differ)) % 2, differ + 1, 2)
    return next((d for d in some if mcnemar((differ + d) // 2, (differ - d) // 2) < LEVEL), None)
