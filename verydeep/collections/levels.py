"""Which folders are classes: those at the top, or those that photos lie in; or file names say it."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from verydeep.config import Level
from verydeep.data.naming import is_hidden, natural
from verydeep.data.record import Names, Passed
from verydeep.data.tree import NUMBERED, Tree, listed, passed, passed_over, repeated_words
from verydeep.errors import DataError
from verydeep.words import several

Found = dict[str, list[Tree]]  # class -> the folders that hold its photos
EXPECTED = "expected at least two folders, each named after a class and holding its photos"
ADVICE = (
    "; put the photos of each class into a folder of its name, or give a manifest (CSV: path,label); "
    "'verydeep predict' takes photos without classes"
)


class Unlabelled(DataError):
    """There are photos, and nothing in the folders tells their classes; a list beside them may."""


def repeated(tops: Mapping[str, Tree]) -> list[str]:
    """Names of folders that stand in several of these, where most do: then these are splits or folds, no classes."""
    inner = {name: own for name, tree in tops.items() if (own := set(below_lone(tree).full))}
    often = Counter(name for own in inner.values() for name in own)
    again = sorted((name for name, n in often.items() if n > 1), key=natural)
    outside = sum(len(tree.photos) for tree in tops.values())
    mostly = 2 * len(inner) > len(tops) and 2 * outside < sum(map(len, tops.values()))
    return again if mostly and len(often) > 1 and 2 * len(again) >= len(often) else []


def below_lone(tree: Tree) -> Tree:
    """The folder, or the one that all its photos lie in, unless it holds them itself."""
    while len(full := tree.full) == 1 and not tree.photos and next(iter(full.values())).full:
        tree = next(iter(full.values()))
    return tree


def check_classes(level: Tree, classes: Level | None, split: bool) -> None:
    """Raises DataError where no classes are to be seen, or the folders may be something else."""
    full, where = level.full, level.path
    if not full:
        some = f"holds {several(len(level.photos), 'photos')} but no class folders"
        some += names_hint(level.photos) or ADVICE
        raise Unlabelled(f"{where} {some if split or level.photos else instead_of_folders(level)}")
    if not classes and (again := repeated(full)):
        (first, second, *_), some = full, listed(again)
        raise DataError(
            f"{where} has folders with folders of the same names in them ({listed([*full])}, each with {some}), which "
            f"look like splits or folds; call them train, val and test (mv '{where}/{first}' '{where}/train'), or add "
            f"--classes leaf if {some} are the classes, whatever they lie in, or --classes top if {first} and "
            f"{second} are"
        )


def names_hint(names: Names) -> str:
    words = repeated_words(names)
    return f"; if {listed(words)}, the words before the numbers, are the classes, add --classes names" if words else ""


def photos_of(found: Mapping[str, Found]) -> dict[str, dict[str, Names]]:
    """Split -> class -> photos at any depth in these folders, relative to DATA; all in natural order."""

    def below(trees: Iterable[Tree]) -> Names:
        return Names.of(sorted((key for tree in trees for key in tree.all_keys()), key=natural))

    return {split: {c: below(own[c]) for c in sorted(own, key=natural)} for split, own in found.items()}


def found_classes(
    levels: Mapping[str, Tree], whole: str, classes: Level | None, least: int, notes: list[str]
) -> dict[str, dict[str, Names]]:
    """Split -> class -> photos, in natural order, with so many classes in the whole at least. Raises DataError."""
    level = levels[whole]
    if classes == "names":
        found = {split: by_file_name(own) for split, own in levels.items()}
    else:
        check_classes(level, classes, whole == "train")
        found = photos_of(classes_in(levels, whole, classes, notes))
    if not found[whole]:
        raise Unlabelled(f"{level.path} holds no photos such as cat.0 or dog_001, so --classes names finds no class")
    if len(found[whole]) < least:
        ((name, names),) = found[whole].items()
        inner = level.full.get(name)
        there = f"; if the classes are in it, give {inner.path}" if inner and len(inner.full) > 1 else ""
        some = f"has only one class folder with photos ({listed([name])})"
        raise Unlabelled(f"{level.path} {some}; {EXPECTED}{names_hint(names) or there}")
    return found


def instead_of_folders(level: Tree) -> str:
    """What a folder holds that holds no photos."""
    names = sorted(os.listdir(level.path))
    if index := next((name for name in names if name.endswith(".index") and not is_hidden(name)), None):
        return f"holds shards and no class folders; give {level.path}/{index.removesuffix('.index')}-*.tar"
    if packed := next((name for name in names if name.lower().endswith((".zip", ".tar", ".tgz", ".gz"))), None):
        return f"holds no class folders, but {packed}; 'verydeep check {level.path}/{packed}' says how to unpack it"
    hidden = sum(map(is_hidden, names))
    passed = f" ({hidden} hidden files and folders are passed over)" if hidden else ""
    return f"has no class folders with photos{passed}; {EXPECTED}"


def classes_in(levels: Mapping[str, Tree], whole: str, classes: Level | None, notes: list[str]) -> dict[str, Found]:
    """Split -> class -> its folders, at the top or those that photos lie in. Raises DataError."""
    tops = levels[whole].full
    leaves = dict[str, dict[str, Tree]]()
    for split, level in levels.items():
        lowest = {tree.key: tree for top in level.full.values() for tree in top.walk() if tree.photos}
        leaves[split] = {key: lowest[key] for key in sorted(lowest, key=natural)}
    more = len(leaves[whole]) > len(tops)
    if classes != "leaf" or not more:
        some = listed([key.removeprefix(levels[whole].key)[:-1] for key in leaves[whole]])
        if more and not classes:
            notes.append(
                f"the classes are the {len(tops)} folders at the top ({listed([*tops])}), each with all below it; "
                f"--classes leaf makes classes of the {len(leaves[whole])} folders that photos lie in ({some})"
            )
        return {split: {name: [tree] for name, tree in level.full.items()} for split, level in levels.items()}
    for tree in leaves[whole].values():
        if inner := next(iter(tree.full.values()), None):
            raise DataError(
                f"{tree.path} holds photos, and so does {inner.name} in it, so --classes leaf cannot tell which is "
                "the class; move those photos, or give --classes top"
            )
    together = bool(repeated(tops))
    alone = len({tree.name for tree in leaves[whole].values()}) == len(leaves[whole])
    found = dict[str, Found]()
    for split, own in leaves.items():
        found[split] = {}
        for key, tree in own.items():
            path = key.removeprefix(levels[split].key)[:-1]
            found[split].setdefault(tree.name if together or alone else path, []).append(tree)
    kind = f", of {listed([*tops])} together" if together else "" if alone else ", called by their paths"
    notes.append(f"the classes are the {len(found[whole])} folders that photos lie in{kind}")
    return found


def by_file_name(level: Tree) -> dict[str, Names]:
    """Class -> photos, by the words before the numbers; none where a photo has none. Raises DataError."""
    found = dict[str, list[str]]()
    for key in sorted(level.all_keys(), key=natural):
        called = NUMBERED.fullmatch(os.path.splitext(os.path.basename(key))[0])
        if not called and found:
            raise DataError(f"{level.path}: --classes names expects names such as cat.0 or dog_001, not {key!r:.100}")
        if called:
            found.setdefault(called[1], []).append(key)
    return {name: Names.of(found[name]) for name in sorted(found, key=natural)}


def by_annotations(level: Tree, known: Collection[str], notes: list[str]) -> dict[str, Names]:
    """Known class -> photos, by a text that begins its lines with photo and class, as Tiny ImageNet's validation has;
    none where it does not tell of all."""
    keys = list(level.all_keys())
    for file in sorted(name for name in os.listdir(level.path) if name.endswith(".txt") and not is_hidden(name)):
        with open(os.path.join(level.path, file), encoding="utf-8", errors="replace") as lines:
            said = dict(words[:2] for line in lines if len(words := line.split()) > 1 and words[1] in known)
        labels = [said.get(os.path.basename(key), "") for key in keys]
        if all(labels) and len(said) >= len(keys):
            notes.append(f"the classes of {level.name} come from {file}")
            return {c: Names.of(k for k, own in zip(keys, labels, strict=True) if own == c) for c in sorted({*labels})}
    return {}


def leftovers(around: Iterable[Tree], levels: Sequence[Tree], beside: Sequence[Tree] = ()) -> tuple[Passed, ...]:
    """What is passed over in the folders around, of which these levels hold the class folders."""
    tops = [tree for level in levels for tree in level.below.values()]
    others = {tree.key[:-1]: sum(own.others.total() for own in tree.walk()) for tree in tops if not len(tree)}
    empty = [name + f" with {several(n, 'other files')}" * bool(n) for name, n in others.items()]
    loose = [level.key + name for level in (*beside, *levels) for name in level.photos]
    return (
        *passed_over(around, tops, "below the class folders"),
        *passed("loose-photos", loose, "beside the class folders"),
        *passed("empty-class", empty, "without photos"),
    )
