"""Labels as classes; and which column of the hub's tables says them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from typing import Any

from verydeep.collections.columns import NUMBER, one_of
from verydeep.collections.table import named_as
from verydeep.errors import DataError
from verydeep.words import several

PERHAPS_NONE = frozenset({"na", "n/a", "none", "#n/a"})
WORDED = ("string", "large_string", "int", "uint", "float")  # types of labels that are no ClassLabel


def classes_by_label(labels: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Label -> class, and what there is to say of labels that are written in two ways, or may be none or several."""
    forms, notes = {label: unicodedata.normalize("NFC", label) for label in labels}, list[str]()
    times = Counter(forms.values())
    found = {label: form if times[form] > 1 else label for label, form in forms.items()}
    if two := [form for form, n in times.items() if n > 1]:
        some = f"{several(len(two), 'classes')}, such as {min(two)!r}"
        notes.append(f"{some}, written in two Unicode forms: taken as one")
    if all(map(NUMBER.fullmatch, labels)) and any(re.search(r"\.0+$", label) for label in labels):
        found = {label: re.sub(r"\.0+$", "", label) for label in labels}
        notes.append("classes are whole numbers: 1.0 is 1")
    if odd := sorted(label for label in labels if label.lower() in PERHAPS_NONE):
        notes.append(f"warning: {odd[0]!r} is taken as a class; leave the label empty where there is none")
    words = {label: set(re.split(r"[\s|;,]+", label)) for label in labels}
    if many := sorted(label for label, own in words.items() if len(own) > 1 and own <= found.keys()):
        some = f"{several(len(many), 'classes')} of the words of others, such as {many[0]!r:.100}"
        notes.append(f"warning: {some}: labels of several things are classes of their own")
    return found, notes


def class_path(features: dict[str, Any], tables: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[str]]:
    """The column with the class; a second name is a field within it, as in the JSON files of WebDataset shards.

    And what there is to say of it.
    """
    given = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(given) == 1:
        return (given[0],), []
    json = features.get("json")
    for within, there in ((("json",), json if isinstance(json, dict) and not given else {}), ((), features)):
        typed = [n for n in there if getattr(feature_at(features, (*within, n)), "dtype", "").startswith(WORDED)]
        names = given if given and not within else named_as(typed, "label")
        if len(names) == 1 or (names and within):
            return (*within, names[0]), []
        if names:
            columns = (table.data.table.select(names).group_by(names).aggregate([]) for table in tables.values())
            label, said = one_of(names, {tuple(map(str, row.values())) for own in columns for row in own.to_pylist()})
            if label:
                return (label,), [said]
    what = f"{len(names)} columns of classes ({', '.join(names)})" if names else "no column of classes"
    flat = list(features) == ["image"]
    hint = "; `datasets` takes no labels from class folders where photos lie beside them" if flat else ""
    if names:
        hint = f"; with `datasets`: rename_column({names[0]!r}, 'label').save_to_disk('FOLDER'), then hub:./FOLDER"
    raise DataError(
        f"{where} has {what}; expected one ClassLabel, or a column called label ({', '.join(features)}){hint}"
    )


def feature_at(features: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        features = features.get(name) if isinstance(features, dict) else None
    return features
