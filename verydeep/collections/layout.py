"""How a folder is understood: what lies around its splits and classes, and which folders are splits."""

import re

from verydeep.collections.levels import Found, by_annotations, found_classes, leftovers, photos_of, repeated
from verydeep.config import Level
from verydeep.data.naming import natural
from verydeep.data.record import SPLIT_WORDS, Names, Passed
from verydeep.data.tree import Tree, listed, passed_over
from verydeep.errors import DataError
from verydeep.words import several

EITHER = re.compile("eval|holdout")  # of which train/, eval/ and test/ have one to validate on
FILLING = "(?:data|files?|folder|images?|imgs?|photos?|pics?|pictures?|sets?|split)*"
SPLIT = re.compile(f"{FILLING}({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))}){FILLING}")
Layout = tuple[dict[str, dict[str, Names]], list[str], tuple[Passed, ...]]


def layout(root: Tree, least: int, classes: Level | None) -> Layout:
    """(Split -> class -> photos, with at least so many classes; how the folder was understood; what is passed over).

    Raises DataError where it may mean two things.
    """
    notes = list[str]()
    here = entered(root, notes)
    if classes != "top":
        without_copies(here, notes)
    parts = split_folders(here, notes)
    if not parts and (among := splits_in_classes(here)):
        notes.append(f"each class folder is divided by the folders in it, {', '.join(among)}")
        return photos_of(among), notes, leftovers([root], [here])
    whole = "train" if parts else "all"
    levels = {whole: entered(parts.pop("train"), notes) if parts else here}
    names = set(levels[whole].full)
    levels |= {s: tree if names & set(tree.full) else entered(tree, notes) for s, tree in parts.items()}
    found = found_classes(levels, whole, classes, least, notes)
    for split, tree in parts.items():
        own = [*found[split]]
        if len(own) > 1 or any(name in found[whole] for name in own):
            continue
        del levels[split]
        found[split] = by_annotations(tree, found[whole], notes)
        if not found[split]:
            del found[split]
            called = f" ({listed(own)} is no class of train)" if own else ""
            notes.append(
                f"warning: {tree.path} holds {several(len(tree), 'photos')} without classes{called} and is left out; "
                f"'verydeep predict RUN {tree.path} --csv' says what is on them, once RUN is trained"
            )
    if classes == "names":
        return found, notes, passed_over([root], levels.values(), "beside the photos")
    return found, notes, leftovers([root], [*levels.values()], [here] if parts else [])


def entered(tree: Tree, notes: list[str]) -> Tree:
    """The folder, or the one that all lies in: flower_photos/ alone holds no class, but the classes."""
    inner = tree.opened()
    for name, below in inner.below.items():
        if split_meant(name) or len(inner.below) == 1:
            below.opened()  # classes may be links, and there may be nothing else
    while len(full := inner.full) == 1 and not inner.photos:
        only = next(iter(full.values())).opened()
        if split_meant(only.name) or only.photos:
            break
        inner = only
    if inner is tree or (len(full) < 2 and not any(map(split_meant, full))):
        return tree
    notes.append(f"all photos lie in {inner.key}, which is taken as the folder of the classes")
    return inner


def without_copies(here: Tree, notes: list[str]) -> None:
    """A folder that holds what lies beside it, once more, is left out. Raises DataError if it holds more."""
    full = here.full
    for name, tree in full.items():
        inner, beside = set(tree.full), set(full) - {name}
        if tree.photos or not inner or not (inner <= beside or len(inner & beside) > 1):
            continue
        again = {key.removeprefix(tree.key) for key in tree.all_keys()}
        if not again <= {key.removeprefix(here.key) for other in beside for key in full[other].all_keys()}:
            both = listed(sorted(inner & beside, key=natural))
            raise DataError(
                f"{tree.path} holds folders called like those beside it ({both}), with other photos; "
                f"move its folders together with those, or {tree.name} elsewhere"
            )
        del here.below[name]
        words = f"warning: {tree.path} holds {several(len(again), 'photos')} that lie beside it under the same names"
        notes.append(f"{words}; this copy is passed over")


def split_meant(name: str) -> str:
    """The split that a folder's name means, as Test_data, 2-valid and training set do, or ''."""
    found = SPLIT.fullmatch(re.sub(r"[\W\d_]+", "", name.casefold()))
    return SPLIT_WORDS[found[1]] if found else ""


def split_folders(here: Tree, notes: list[str]) -> dict[str, Tree]:
    """Split -> its folder; empty where the folders are classes: "train" is also a vehicle. Raises DataError."""
    full = here.full
    called = {name: split for name in full if (split := split_meant(name))}
    deep = [name for name in called if full[name].full]
    flat = not deep and (len(called) == len(full) or len(set(called.values())) > 1)
    if not called or not (deep or flat):
        if called:
            notes.append(
                f"{listed(list(called))}: taken as a class; of a split the class folders lie in it, beside train"
            )
        return {}
    parts = dict[str, str]()
    for name in sorted(called, key=lambda n: bool(EITHER.search(n.casefold()))):
        split = called[name]
        if split in parts and EITHER.search(name.casefold()) and "val" not in parts:
            split = "val"
        if split in parts:
            raise DataError(f"{here.path} has both {parts[split]} and {name}, which mean the same split; keep one")
        parts[split] = name
    if "train" not in parts:
        raise DataError(
            f"{here.path} has {', '.join(parts.values())} but no train folder; expected train/, and val/ or test/; "
            f"one of them alone is tested on by its own path, {full[next(iter(parts.values()))].path}"
        )
    if other := next((name for name in full if name not in called), None):
        raise DataError(
            f"{here.path} has photos in {other}, which is no split of class folders like {parts['train']}; "
            f"expected train/, val/ and test/ and no other photos, so move {other} elsewhere"
        )
    if strange := {name: split for split, name in parts.items() if name.lower() != split}:
        notes.append("splits: " + ", ".join(f"{name} is taken as {split}" for name, split in strange.items()))
    return {split: full[parts[split]] for split in ("train", "val", "test") if split in parts}


def splits_in_classes(here: Tree) -> dict[str, Found]:
    """Split -> class -> photos, where the folders of splits lie in each class folder."""
    full, found = here.full, dict[str, Found]()
    if not repeated(full) or not all(split_meant(name) for tree in full.values() for name in tree.full):
        return {}
    for label, tree in full.items():
        for name, part in tree.full.items():
            if found.setdefault(split_meant(name), {}).setdefault(label, [part]) != [part] or tree.photos:
                return {}
    return {s: found[s] for s in ("train", "val", "test") if s in found} if "train" in found else {}
