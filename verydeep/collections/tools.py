"""Photos with boxes: which labelling tool a file or folder comes from, by a look at a few files."""

import os
from itertools import islice
from pathlib import Path

from verydeep.collections.annotated import annotated
from verydeep.collections.marks_yolo import NAMES, YAML, ClassNames
from verydeep.collections.places import stem, stems
from verydeep.collections.signs import SIGNS, tools_of
from verydeep.data.naming import is_hidden
from verydeep.data.record import DataSet
from verydeep.data.tree import Tree, tree_of
from verydeep.errors import DataError

A_PHOTO = ("Pascal VOC", "LabelMe", "YOLO")  # tools that write a file a photo
FEW, FOLDERS = 8, 32  # files of one ending, and folders of them, that are looked at


def open_annotated(path: Path, least: int, tree: Tree | None = None) -> DataSet | None:
    """The data set of boxes in a file, or in a folder of which this is the tree; None for other data.

    Raises DataError that names the file and what is wrong in it.
    """
    if tree is not None:
        kinds = tools_below(tree)
    elif path.suffix.lower() in YAML:
        kinds = {"YOLO": tools_below(tree_of(path.parent)).get("YOLO", [])} if ClassNames([path]).names else {}
    else:
        kinds = {tool: [path] for tool in tools_of(path)}
    if len(kinds) > 1:
        some = " and ".join(f"of {tool} in {os.path.relpath(own[0].parent, path)}" for tool, own in kinds.items())
        raise DataError(f"{path} holds boxes {some}; give the folder or file of one of them, or move the others away")
    return next((annotated(path, tool, files, least) for tool, files in kinds.items()), None)


def tools_below(tree: Tree) -> dict[str, list[Path]]:
    """Tool -> its files in a folder or below; none at once where nothing has their endings."""
    found, looked = dict[str, list[Path]](), list[Path]()
    tree.opened()  # folders may be links, as nothing is copied for each program
    for ending in SIGNS:
        files = [files_in(own, ending) for own in tree.walk() if ending in own.others]
        looked = [path for own in files[:FOLDERS] for path in islice((p for p in own if p.stat().st_size), FEW)]
        for tool in dict.fromkeys(tool for path in looked for tool in tools_of(path)):
            found[tool] = [path for own in files for path in own if tool in A_PHOTO or tool in tools_of(path)]
    if "YOLO" in found:
        known = {stem(os.path.basename(key)) for key in tree.all_keys()}
        if known and not any(known.intersection(stems(path.stem)) and tools_of(path) for path in looked):
            del found["YOLO"]  # numbers of another kind
    return found


def files_in(tree: Tree, ending: str) -> list[Path]:
    names = sorted(name for name in os.listdir(tree.path) if name.lower().endswith(ending) and not is_hidden(name))
    return [path for name in names if name not in NAMES and (path := Path(tree.path, name)).is_file()]
