"""Lists of photos as people bring them: understood and said, or refused with what to type."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from verydeep.cli import main
from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.errors import DataError

NAMES = [f"{i:04d}" for i in range(24)]
TRUTH = {name: ("cat", "dog", "owl")[i % 3] for i, name in enumerate(NAMES)}  # photo -> class
WIDTH = {name: 20 + i for i, name in enumerate(NAMES)}  # by which a photo is recognised


@pytest.fixture
def here(tmp_path: Path) -> Path:
    grow(tmp_path)
    return tmp_path


def grow(folder: Path, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Image.new("RGB", (WIDTH[name], 20), (200, 40, 40)).save(folder / f"{name}{suffix}")
    return folder


def listed(header: str = "path,label", row: str = "{}.jpg,{}", between: str = "\n") -> str:
    return between.join([header] * bool(header) + [row.format(name, label) for name, label in TRUTH.items()]) + between


def file(folder: Path, text: str | bytes, name: str = "photos.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / name)


def labels_by_photo(data: DataSet) -> dict[str, str]:
    """Which class each photo has, the photos known by their widths."""
    by_width = {width: name for name, width in WIDTH.items()}
    found = {}
    for photos in data.splits.values():
        for i, target in enumerate(photos.targets()):
            found[by_width[photos.open(i).width]] = data.classes[target]
    return found


def notes_of(path: str, truth: dict[str, str] | None = None) -> str:
    """What is said of a list that is taken as it is meant; a run's split.csv keeps it so."""
    data = open_data(path)
    assert labels_by_photo(data) == (truth or TRUTH)
    kept = Path(path).with_name("kept.csv")
    write_split(data, kept)
    if "all" not in data.splits:
        assert open_data(path, split=kept).fingerprint() == data.fingerprint()
    kept.unlink()
    return "\n".join(data_lines(data))


def refused(path: str) -> str:
    with pytest.raises(DataError) as e:
        open_data(path)
    assert "\n" not in str(e.value)
    return str(e.value)


def typed(words: str) -> str:
    """The file that the command at the end of a message writes."""
    command = re.search(r"(?:\((?:<|iconv|printf)|sed|iconv|cp) .*", words)
    assert command, words
    subprocess.run(command[0], shell=True, check=True)
    return shlex.split(command[0])[-1]


def test_a_list_as_ours_is_taken_without_a_word(here: Path) -> None:
    assert notes_of(file(here, listed())) == ""
    assert notes_of(file(here, listed("path,label,split", "{}.jpg,{},train"))) == ""


# Text


SEPARATED = {
    "semicolons": (listed("path;label", "{}.jpg;{}"), "a.csv"), "tabs": (listed("path\tlabel", "{}.jpg\t{}"), "a.csv"),
    "tsv": (listed("path\tlabel", "{}.jpg\t{}"), "a.tsv"), "bars": (listed("path|label", "{}.jpg|{}"), "a.csv"),
    "text": (listed("path label", "{}.jpg {}"), "a.txt"),
    "Excel's own": ("sep=;\n" + listed("path;label", "{}.jpg;{}"), "a.csv"),
    "commas inside": (listed("path;label;note, if any", "{}.jpg;{};a, b"), "a.csv"),
    "quotes after blanks": (listed("path, label", '"{}.jpg", "{}"'), "a.csv"),
    "empty lines": ("\n,,\n" + listed("path,label", "\n{}.jpg,{}\n,") + ",\n", "a.csv"),
    "Macintosh": (listed(between="\r"), "a.csv"), "Windows": (listed(between="\r\n"), "a.csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEPARATED)
def test_separators(here: Path, name: str) -> None:
    assert notes_of(file(here, *SEPARATED[name])) == ""


CODED = {
    "utf-8-sig": "Müller", "utf-16": "Müller", "utf-16-le": "猫", "utf-16-be": "Größe", "cp1252": "Größe",
    "gb18030": "波斯猫", "latin-1": "café", "gbk": "裤子T恤",
}  # fmt: skip


@pytest.mark.parametrize("ending", ["a.csv", "a.jsonl", "a.json"])
@pytest.mark.parametrize("encoding", CODED)
def test_encodings(here: Path, encoding: str, ending: str) -> None:
    word = CODED[encoding]
    text = listed(row=f"{{}}.jpg,{{}} {word}") if ending == "a.csv" else ""
    rows = [{"path": f"{n}.jpg", "label": f"{c} {word}"} for n, c in TRUTH.items()]
    if ending == "a.jsonl":
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if ending == "a.json":
        text = json.dumps(rows, ensure_ascii=False)
    said = notes_of(file(here, text.encode(encoding), ending), {n: f"{c} {word}" for n, c in TRUTH.items()})
    if encoding.startswith("utf"):
        assert said == ""
    else:
        assert re.search(
            rf"a\.\w+ is not UTF-8; read as (GB 18030|Windows-1252) .* it says '.*{word}.*'; if that is wrong: iconv",
            said,
        )


def test_bytes_of_no_encoding_are_refused(here: Path) -> None:
    assert "neither UTF-8, UTF-16, GB 18030 nor Windows-1252" in refused(file(here, b"path,label\n0000.jpg,\x81\n"))


def test_a_row_with_an_unquoted_separator_is_refused(here: Path) -> None:
    said = refused(file(here, listed() + "a,b.jpg,cat\n"))
    assert "line 26: has 3 columns, 2 in the first line; what holds a ',' must stand in quotes" in said


# Columns


@pytest.mark.parametrize(
    "column",
    ["file_name", "filename", "File Name", "file", "image", "image_path", "img", "Path", " path ", "imagePath"],
)
def test_names_of_paths(here: Path, column: str) -> None:
    said = notes_of(file(here, listed(f"{column},label")))
    assert said == ("" if column == " path " else f"columns: path is {column!r}")


@pytest.mark.parametrize(
    "column", ["class", "category", "target", "breed", "label_name", "Species", "LABEL", "what it is"]
)
def test_names_of_labels(here: Path, column: str) -> None:
    assert notes_of(file(here, listed(f"path,{column}"))) == f"columns: label is {column!r}"
    truth = "\n".join(json.dumps({"Image": f"{n}.jpg", column: c}) for n, c in TRUTH.items())
    assert notes_of(file(here, truth, "a.jsonl")) == f"columns: path is 'Image', label is {column!r}"


@pytest.mark.parametrize("header", ["", "Bild,Klasse"])
def test_two_columns_without_names_that_are_known(here: Path, header: str) -> None:
    said = notes_of(file(here, listed(header)))
    assert said == ("columns: path is 'Bild', label is 'Klasse'" if header else
                    "there is no header: the first column is taken as path, the second as label")  # fmt: skip


def test_three_columns_without_names_are_refused_with_what_names_them(here: Path) -> None:
    said = refused(file(here, listed("", "{}.jpg,{},train")))
    assert "its first line is a photo and no header, and has 3 columns" in said
    assert notes_of(typed(said)) == ""


def test_a_class_with_its_name_beside_it(here: Path) -> None:
    number = {"cat": 0, "dog": 1, "owl": 2}
    text = "".join(f"{n}.jpg,{number[c]},{c}\n" for n, c in TRUTH.items())
    for header in ("path,label,label_name", "path,class_id,class", "file,target,category"):
        assert re.search(r"the classes are those of '(label_name|class|category)'; '\w+' says the same",
                         notes_of(file(here, header + "\n" + text)))  # fmt: skip


def test_several_labels_are_refused_with_what_chooses(here: Path) -> None:
    text = "".join(f"{n}.jpg,{'pet' if c != 'owl' else 'bird'},{c}\n" for n, c in TRUTH.items())
    said = refused(file(here, "path,category,breed\n" + text))
    assert "several columns may say the label: category, breed; call the right one label: (printf" in said
    assert "columns" not in notes_of(typed(said.replace("path,label,breed", "path,category,label")))
    said = notes_of(file(here, "path,category,label\n" + text))
    assert said == "warning: the classes are those of 'label'; 'category' says something else and is not used"


def test_several_paths(here: Path) -> None:
    text = "".join(f"{n},{n}.jpg,s/{n}.jpg,{c}\n" for n, c in TRUTH.items())
    assert "path is 'image'" in notes_of(file(here, "id,image,file_name,label\n" + text))
    grow(here / "s")
    said = refused(file(here, "id,image,file_name,label\n" + text))
    assert "several columns may say the path: file_name, image; call the right one path: (printf" in said
    assert notes_of(typed(said)) == ""


def test_no_column_of_labels(here: Path) -> None:
    text = "".join(f"{n}.jpg,{c},{i}\n" for i, (n, c) in enumerate(TRUTH.items()))
    said = refused(file(here, "path,what,width\n" + text))
    assert "the header lacks label" in said
    assert notes_of(typed(said)) == ""
    assert "'width' says something else of nearly every photo" in refused(
        file(here, "path,width\n" + "".join(f"{n}.jpg,{i}\n" for i, n in enumerate(TRUTH)))
    )


def test_one_column_a_class(here: Path) -> None:
    rows = [[f"{n}.jpg", *(int(c == name) for name in ("cat", "dog", "owl")), n] for n, c in TRUTH.items()]
    for dialect in ({}, {"delimiter": ";"}):
        with (here / "a.csv").open("w", newline="") as out:
            csv.writer(out, **dialect).writerows([["image_id", "cat", "dog", "owl", "number"], *rows])  # type: ignore[arg-type]
        said = notes_of(str(here / "a.csv"))
        assert "label, one 1 a row is 'cat' and 'dog' and 'owl'" in said
    rows[7][1:4] = [1, 1, 0]
    with (here / "a.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["image_id", "cat", "dog", "owl", "number"], *rows])
    assert "line 9: 2 of the columns cat, dog, owl are 1; expected a column of labels, or exactly one 1" in refused(
        str(here / "a.csv")
    )


def split_by(header: str, *words: str) -> str:
    """A third of the photos, by their place, has each word."""
    return f"path,label,{header}\n" + "".join(
        f"{n}.jpg,{c},{words[i // 8]}\n" for i, (n, c) in enumerate(TRUTH.items())
    )


SPLITS = {
    "subset": ("train", "valid", "test"), "Partition": ("training", "dev", "testing"), "set": ("TRAIN", "val", "eval"),
    "phase": ("train", "val", "holdout"), "fold": ("train", "val", "test"), "is_valid,is_test": ("0,0", "1,0", "0,1"),
    "is_test,is_val": ("False,", "False,True", "True,False"),
}  # fmt: skip


@pytest.mark.parametrize("header", SPLITS)
def test_names_of_splits(here: Path, header: str) -> None:
    path = file(here, split_by(header, *SPLITS[header]))
    said = notes_of(path)
    assert all(repr(name) in said for name in header.split(","))
    assert "warning" not in said
    data = open_data(path)
    for i, split in enumerate(("train", "val", "test")):
        assert list(data.split(split).keys) == [f"{n}.jpg" for n in NAMES[8 * i : 8 * i + 8]]


def test_a_flag_alone(here: Path) -> None:
    said = {
        "is_valid": {"train": 16, "val": 8},
        "is_test": {"train": 16, "test": 8},
        "is_train": {"train": 8, "test": 16},
    }
    for column, counts in said.items():
        words = ("yes", "no", "no") if column == "is_train" else ("no", "no", "yes")
        path = file(here, split_by(column, *words))
        assert f"{column!r} true is" in notes_of(path)
        assert {s: len(p) for s, p in open_data(path).splits.items()} == counts


@pytest.mark.parametrize("header", ["fold", "set", "kfold"])
def test_numbers_of_folds_are_no_splits(here: Path, header: str) -> None:
    data = open_data(file(here, split_by(header, "0", "1", "2")))
    assert list(data.splits) == ["all"]
    (said,) = data_lines(data)
    assert re.match(f"warning: the column '{header}' .*not used", said)


@pytest.mark.parametrize(("header", "words", "why"), [
    ("subset", ("train", "val", "extra"), "the column 'subset' says 'extra', expected train, val or test"),
    ("subset,phase", ("train,val", "val,val", "test,train"), "several columns may say the split: subset, phase; "),
    ("is_valid,is_test", ("0,0", "1,0", "1,1"), "line 18: is_valid and is_test are both true"),
    ("split", ("train", "val", "fold 3"), "line 18: the split is 'fold 3', expected train, val or test"),
])  # fmt: skip
def test_splits_that_are_not_plain_are_refused(here: Path, header: str, words: tuple[str, ...], why: str) -> None:
    assert why in refused(file(here, split_by(header, *words)))


def test_a_split_beside_others_is_the_split(here: Path) -> None:
    said = notes_of(file(here, split_by("split,is_valid,fold", "train,0,1", "val,1,2", "test,0,3")))
    assert "warning: 'fold', 'is_valid' not used, as 'split' says the splits" in said


@pytest.mark.parametrize("column", ["Patient ID", "patient-id", "PatientID", "Subject"])
def test_groups_in_other_spellings(here: Path, column: str) -> None:
    data = open_data(file(here, split_by(column, "a", "b", "c")))
    assert data.grouped_by == column
    assert len(data_lines(data)) == 1


# Labels


def test_numbers_with_a_point_are_whole(here: Path) -> None:
    number = {"cat": "1.0", "dog": "2", "owl": "10.0"}
    text = "path,label\n" + "".join(
        f"{n}.jpg,{number[c] if n > '0003' else number[c][:2].strip('.')}\n" for n, c in TRUTH.items()
    )
    truth = {n: number[c].removesuffix(".0") for n, c in TRUTH.items()}
    assert "classes are whole numbers: 1.0 is 1" in notes_of(file(here, text), truth)
    values = [{"path": f"{n}.jpg", "label": float(truth[n]) if i % 2 else int(truth[n])} for i, n in enumerate(TRUTH)]
    assert "classes are whole numbers" in notes_of(file(here, json.dumps(values), "a.json"), truth)
    versions = {n: {"cat": "1.0", "dog": "1", "owl": "x"}[c] for n, c in TRUTH.items()}  # not all are numbers
    assert notes_of(file(here, "path,label\n" + "".join(f"{n}.jpg,{c}\n" for n, c in versions.items())), versions) == ""


@pytest.mark.parametrize("empty", ["", "nan", "NaN", "NULL", "<NA>", "  ", '""'])
def test_photos_without_a_label_are_left_out_and_counted(here: Path, empty: str) -> None:
    truth = {n: c for n, c in TRUTH.items() if n > "0004"}
    text = "path,label\n" + "".join(f"{n}.jpg,{c if n in truth else empty}\n" for n, c in TRUTH.items())
    assert notes_of(file(here, text), truth) == "warning: 5 photos without a label left out, line 2 for one"
    rows = "\n".join(json.dumps({"path": f"{n}.jpg", "label": truth.get(n)}) for n in TRUTH)
    assert "5 photos without a label left out, line 1 for one" in notes_of(file(here, rows, "a.jsonl"), truth)
    assert "names no photo with a label" in refused(file(here, f"path,label\n0000.jpg,{empty}\n"))


def test_a_class_called_none_is_a_class_and_warned_of(here: Path) -> None:
    truth = {n: "None" if c == "owl" else c for n, c in TRUTH.items()}
    text = "path,label\n" + "".join(f"{n}.jpg,{c}\n" for n, c in truth.items())
    assert "warning: 'None' is taken as a class" in notes_of(file(here, text), truth)


def test_blanks_around_do_not_count(here: Path) -> None:
    assert notes_of(file(here, listed(" path , label ", " {}.jpg ,\u00a0{}\u3000"))) == ""


# Where photos are


PLACED = {
    "below": ("images", "{}.jpg"), "deep": ("data/train/all", "{}.jpg"), "ids": ("train", "{}"), "beside": ("", "{}"),
    "elsewhere": ("images", "/content/drive/images/{}.jpg"), "Windows": ("images", "C:\\Users\\me\\images\\{}.jpg"),
    "backslashes": ("images", "images\\{}.jpg"), "a part": ("images", "data/x/images/{}"),
    "case": ("Images", "images/{}.JPG"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".png"])
def test_photos_are_found_below_the_list(tmp_path: Path, name: str, suffix: str) -> None:
    folder, row = PLACED[name]
    grow(tmp_path / folder, suffix)
    row = row.replace(".jpg", suffix)
    path = file(
        tmp_path, listed(row=row + ",{}").replace(".JPG", ".jpg" if name == "case" and suffix == ".JPG" else ".JPG")
    )
    if name == "case" and suffix == ".png":
        assert "none was found" in refused(path)
        return
    said = notes_of(path)
    plain = name == "backslashes"
    assert (
        said == "" if plain else re.fullmatch(r"photos of photos\.csv were found in .*: \S*0000(\.\w+)? is \S+", said)
    )


def test_photos_in_the_folders_of_their_splits_and_classes(tmp_path: Path) -> None:
    for n, c in TRUTH.items():
        (tmp_path / "images" / c).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH[n], 20)).save(tmp_path / "images" / c / f"{n}.jpg")
    assert "0000.jpg is images/cat/0000.jpg" in notes_of(file(tmp_path, listed()))


def test_photos_of_several_folders(tmp_path: Path) -> None:
    """The one folder with all of them is meant, as a test that begins at the same number has others."""
    grow(tmp_path / "train")
    (tmp_path / "test").mkdir()
    Image.new("RGB", (99, 9)).save(tmp_path / "test" / "0003.jpg")
    path = file(tmp_path, listed("id,label", "{},{}"))
    assert "is train/0000.jpg" in notes_of(path)
    grow(tmp_path / "thumbs")
    said = refused(path)
    assert "0000 may be thumbs/0000.jpg or train/0000.jpg; write the whole path into the list, or put it beside" in said
    typed(said)
    assert notes_of(str(tmp_path / "thumbs" / "photos.csv"))


def test_a_photo_that_two_names_fit_is_refused(tmp_path: Path) -> None:
    grow(tmp_path / "c")
    path = file(tmp_path, "path,label\n" + "".join(f"x/{s}/{n}.jpg,{c}\n" for n, c in TRUTH.items() for s in "ab"))
    assert "none was found" in refused(path)
    path = file(tmp_path, "path,label\n" + "".join(f"{n}{s},{c}\n" for n, c in TRUTH.items() for s in ("", ".jpg")))
    assert "names 0000 and 0000.jpg, and of both only c/0000.jpg is there" in refused(path)


def test_some_photos_that_are_missing_are_counted(tmp_path: Path) -> None:
    grow(tmp_path / "images")
    data = open_data(file(tmp_path, listed() + "gone.jpg,cat\n"))
    assert "warning: 1 of 25 photos were not found, gone.jpg for one" in "\n".join(data_lines(data))


@pytest.mark.parametrize(("row", "looked"), [("imgs/{}.gif,{}", "imgs/0000.gif"), ("{}.png,{}", "0000.png")])
def test_a_wrong_folder_or_suffix_is_told_at_once(
    tmp_path: Path, row: str, looked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grow(tmp_path / "images")
    path = file(tmp_path, listed(row=row))
    assert main(["check", path]) == 1
    said = capsys.readouterr().err
    assert f"names 24 photos and none was found: {tmp_path / looked} is not there" in said
    assert "there are 24 photos there, such as images/0000.jpg" in said
    assert said.count("\n") == 1


def test_a_link_to_a_folder_of_photos_is_gone_into(tmp_path: Path) -> None:
    grow(tmp_path / "disk")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "images").symlink_to(tmp_path / "disk")
    assert "0000.jpg is images/0000.jpg" in notes_of(file(tmp_path / "list", listed()))


# JSON


def test_json(here: Path) -> None:
    rows = [{"file_name": f"{n}.jpg", "category": c} for n, c in TRUTH.items()]
    assert (
        notes_of(file(here, json.dumps(rows, indent=1), "a.json"))
        == "columns: path is 'file_name', label is 'category'"
    )
    assert notes_of(file(here, json.dumps({f"{n}.jpg": c for n, c in TRUTH.items()}), "a.json")) == ""
    assert notes_of(file(here, "\n".join(map(json.dumps, rows)), "a.json"))
    ids = [{"id": int(n), "label": c} for n, c in TRUTH.items()]
    for n in NAMES:
        (here / f"{n}.jpg").rename(here / f"{int(n)}.jpg")
    assert "columns: path is 'id'" in notes_of(file(here, json.dumps(ids), "a.json"))
    assert "'photos' is neither a label nor a photo; expected [{path, label}, ...]" in refused(
        file(here, json.dumps({"photos": rows}), "a.json")
    )


# What every verb says


def test_kaggles_pair_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grow(tmp_path / "train")
    (tmp_path / "test").mkdir()
    Image.new("RGB", (50, 50)).save(tmp_path / "test" / "1000.jpg")
    path, out = file(tmp_path, listed("id,breed", "{},{}"), "labels.csv"), str(tmp_path / "run")
    tiny = shlex.split("--recipe small --crop 32 --scale 36 --base_width 4 --fc_width 8 --epochs 1")
    assert main(["train", path, "--out", out, *tiny]) == 0
    said = capsys.readouterr().err
    assert "columns: path is 'id', label is 'breed'" in said
    assert "photos of labels.csv were found in" in said
    assert main(["train", path, "--out", out, *tiny[:-1], "2"]) == 0  # goes on
    capsys.readouterr()
    assert main(["evaluate", out, path]) == 0
    capsys.readouterr()
    assert main(["check", path, "--json"]) == 0
    assert "columns: path is 'id', label is 'breed'" in json.loads(capsys.readouterr().out)["notes"]


def test_lines_without_end_of_one_photo_are_refused_soon(here: Path) -> None:
    rows = "".join(f"0.jpg,label {i}\n" for i in range(60_000))
    with pytest.raises(DataError, match=r"0\.jpg has more than 4,000 labels or boxes"):
        open_data(file(here, f"path,label\n{rows}".encode(), "a.csv"))


def test_a_photo_in_place_of_the_header_is_refused(here: Path) -> None:
    said = refused(file(here, listed(header="", row="{},{}")))
    assert "its first line is a photo and no header" in said
    assert len(open_data(typed(said)).classes) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("header", ["Which photo?,what", "(which),a/b*.", "the 'one',x", '"a, b",x', "a\\new,x\\ty"])
def test_the_command_that_names_a_column_works_whatever_it_is_called(here: Path, header: str, encoding: str) -> None:
    rows = listed(f"{header},more", "{0}.jpg,{1},{1}")
    said = refused(file(here, rows.encode(encoding), "a.csv"))
    assert "the header lacks path" in said
    assert "the header lacks label" in (said := refused(typed(said)))
    assert notes_of(typed(said)) == ""


def test_a_patient_without_a_name_is_nobodys_group(here: Path) -> None:
    rows = "".join(f"{name}.jpg,{c},{'NaN' if i % 2 else i}\n" for i, (name, c) in enumerate(TRUTH.items()))
    groups = list(open_data(file(here, f"path,label,patient\n{rows}")).split("all").groups or ())
    assert groups.count("") == len(TRUTH) // 2


def test_label_and_labels_of_a_table_are_two_columns(here: Path) -> None:
    rows = "".join(f"{name}.jpg,{c},{c}{i % 2}\n" for i, (name, c) in enumerate(TRUTH.items()))
    assert "warning: the classes are those of 'label'" in notes_of(file(here, f"path,label,labels\n{rows}"))


# What strangers' lists do besides


def test_ones_with_a_decimal_comma(here: Path) -> None:
    rows = "".join(
        f"{n};{';'.join('1,0' if c == k else '0,0' for k in ('cat', 'dog', 'owl'))}\n" for n, c in TRUTH.items()
    )
    assert "label, one 1 a row is 'cat' and 'dog' and 'owl'" in notes_of(file(here, f"image;cat;dog;owl\n{rows}"))
    said = refused(file(here, "image;cat;dog;owl\n" + rows.replace("1,0", "0,9")))
    assert "if that is 'cat', give it that name in the first line: (printf" in said


@pytest.mark.parametrize(("header", "row"), [
    ("# by hand, 2019\n\n# all\npath,label", "{}.jpg,{}"), ("# of us\n#path,label", "{}.jpg,{}"),
    ("# of us", "{}.jpg,{}"),
    ('# "a\nsep=;\npath;label', "{}.jpg;{}"), ("# label each photo\n# path label", "{}.jpg {}"),
])  # fmt: skip
def test_comments_before_the_header_are_passed_over(here: Path, header: str, row: str) -> None:
    said = notes_of(file(here, listed(header, row), "a.txt"))
    assert f"lines with # before the header are passed over: {header.partition(chr(10))[0]!r}" in said
    said = refused(file(here, "# a\n\n" + listed("path,what,which", "{0}.jpg,{1},{0}x"), "b.csv"))
    assert "if that is 'what', give" in said
    assert notes_of(typed(said)).endswith("passed over: '# a'")
    assert "line 30" in refused(file(here, listed("# a\n# b\npath,label") + "\n\n0000.jpg,cat,dog\n"))


@pytest.mark.parametrize("split", ["", ",train"])
def test_a_list_that_contradicts_itself_is_told_of(here: Path, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    header = "path,label" + ",split" * bool(split)
    path = file(here, listed(header, "{}.jpg,{}" + split) + f"0000.jpg,dog{split}\n0003.jpg,owl{split}\n")
    assert main(["train", path, "--out", str(here / "run")]) == 1
    assert re.search(r"with several labels.* 0000\.jpg for one \('?cat'?, '?dog'?\).* (keep the|give each)",
                     capsys.readouterr().err)  # fmt: skip
    assert "warning: 2 photos with several labels, 0000.jpg for one ('cat', 'dog')" in open_data(path).notes[-1]
    assert notes_of(file(here, listed() + listed(""))) == ""


@pytest.mark.parametrize("address", ["https://a.org/{}/{}.png?size=1", "s3://bucket/{}/{}.jpeg"])
@pytest.mark.parametrize("column", ["path", "url"])
def test_addresses_are_called_addresses(here: Path, address: str, column: str) -> None:
    rows = "".join(f"{address.format(c, n)},{c}\n" for n, c in TRUTH.items())
    assert re.search(
        r"names 24 photos and none was found: \w+:/\S* is an address; download the photos",
        refused(file(here, f"{column},label\n{rows}")),
    )


@pytest.mark.parametrize("row", ["{}.jpg,{}", "{},{}"])
@pytest.mark.parametrize("folder", ["", "images"])
def test_zeros_that_a_spreadsheet_ate(tmp_path: Path, row: str, folder: str) -> None:
    grow(tmp_path / folder)
    text = "id,label\n" + "".join(row.format(int(n), c) + "\n" for n, c in TRUTH.items())
    said = notes_of(file(tmp_path, text))
    assert (
        f"photos of photos.csv were found in {tmp_path}: {row[:-3].format(0)} is {folder}{'/' * bool(folder)}0000.jpg"
        in said
    )
    (tmp_path / folder / "0007.jpg").rename(tmp_path / folder / "x.jpg")
    said = refused(file(tmp_path, text))
    assert re.search(r"; 0(\.jpg)? may be \S*0000.jpg: correct the list", said)
    (tmp_path / folder / "x.jpg").rename(tmp_path / folder / "07.jpg")
    (tmp_path / folder / "007.jpg").write_bytes((tmp_path / folder / "07.jpg").read_bytes())
    assert re.search(r"7(\.jpg)? may be \S*007.jpg or \S*07.jpg; write the whole path", refused(file(tmp_path, text)))


def test_two_unicode_forms_of_a_class_are_one(here: Path) -> None:
    rows = "".join(f"{n}.jpg,{c}{'é' if i % 2 else 'e' + chr(0x301)}\n" for i, (n, c) in enumerate(TRUTH.items()))
    assert "3 classes, such as 'caté', written in two Unicode forms: taken as one" in notes_of(
        file(here, f"path,label\n{rows}"), {n: f"{c}é" for n, c in TRUTH.items()}
    )


@pytest.mark.parametrize("between", " |;,")
def test_several_labels_in_one_text_are_told_of(here: Path, between: str) -> None:
    truth = {n: f"cat{between}owl" if i % 5 == 1 else c for i, (n, c) in enumerate(TRUTH.items())}
    said = notes_of(file(here, "path\tlabel\n" + "".join(f"{n}.jpg\t{c}\n" for n, c in truth.items())), truth)
    assert said == (
        f"warning: 1 class of the words of others, such as 'cat{between}owl': labels of several things are classes of "
        "their own"
    )
    truth = {n: f"{c} {c}" if c == "cat" else f"wild {c}" for n, c in TRUTH.items()}
    assert notes_of(file(here, "path\tlabel\n" + "".join(f"{n}.jpg\t{c}\n" for n, c in truth.items())), truth) == ""


@pytest.mark.parametrize("place", ["more/{}.jpg", "more/{:.3}/{}.jpg", "0{}.jpg"])
def test_photos_elsewhere_among_others_in_place(here: Path, place: str) -> None:
    for n in NAMES[4::5]:
        (here / place.format(n, n)).parent.mkdir(exist_ok=True, parents=True)
        (here / f"{n}.jpg").rename(here / place.format(n, n))
    said = "\n".join(data_lines(open_data(file(here, listed()))))
    real = place.format("0004", "0004")
    assert f"warning: 4 of 24 photos were not found, 0004.jpg for one; 0004.jpg may be {real}: correct the list" in said


def test_a_class_called_0_is_the_class_of_its_box(here: Path) -> None:
    rows = [{"path": f"{n}.jpg", "labels": [1, 0], "boxes": [{"label": 1, "box": [0, 0, 5, 5]},
             {"label": 0, "box": [1, 1, 9, 9]}]} for n in NAMES[:2]]  # fmt: skip
    data = open_data(file(here, json.dumps(rows), "a.json"))
    assert [data.classes[c] for c in data.split("all").record(0).box_labels] == ["1", "0"]


def test_boxes_may_say_the_classes_alone_and_stand_in_json(here: Path) -> None:
    rows = [{"path": f"{n}.jpg", "boxes": [{"label": c, "box": [0, 0, 5, 5]}]} for n, c in list(TRUTH.items())[:6]]
    data = open_data(file(here, json.dumps(rows), "a.json"))
    assert (data.classes, len(data.split("all").boxes)) == (("cat", "dog", "owl"), 6)
    for row, c in zip(rows, TRUTH.values(), strict=False):  # classes that stand beside them are taken as ever
        row["kind"] = c
        row["boxes"] = [{"box": [0, 0, 5, 5]}]
    assert "columns: label is 'kind'" in data_lines(open_data(file(here, json.dumps(rows), "a.json")))
    table = file(here, "path,label,boxes\n0000.jpg,cat,0 0 5 5\n0001.jpg,dog,\n")
    assert "line 2: boxes is for JSON; in a table each box has a line" in refused(table)
