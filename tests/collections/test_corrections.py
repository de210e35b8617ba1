"""Labels mended by a list: what it changes, in every kind of data, and what it refuses."""

import numpy as np
import pytest

from tests.shards.test_pack import packed
from verydeep.collections import corrected
from verydeep.data.builtin import open_builtin
from verydeep.data.record import DataSet, compact, files
from verydeep.data.source import open_data
from verydeep.errors import DataError

HEAD = "photo,label,correct,split\n"


def labels_of(data):
    """(split, photo) -> class, by the records alone."""
    every = ((photos, i) for photos in data.splits.values() for i in range(len(photos)))
    records = (photos.record(i) for photos, i in every)
    return {(r.split, r.key): ", ".join(data.classes[c] for c in r.labels) for r in records}


def write(path, *rows, head=HEAD, **how):
    path.write_text(head + "".join(f"{row}\n" for row in rows), **how)
    return path


def test_labels_are_mended_and_photos_left_out_and_nothing_else(photo_folder, tmp_path):
    file = write(tmp_path / "fix.csv", "2/3.jpg,2,10,", "1/0.png,1,,")
    before, data = labels_of(open_data(str(photo_folder))), open_data(str(photo_folder), corrections=file)
    wanted = {key: name for key, name in before.items() if key != ("all", "1/0.png")} | {("all", "2/3.jpg"): "10"}
    assert labels_of(data) == wanted
    assert data.notes[-1] == f"{file}: 1 label mended, 1 photo left out"
    photos, plain = data.split("all"), open_data(str(photo_folder)).split("all")
    places = {key: i for i, key in enumerate(plain.keys)}
    assert all(photos.content(i) == plain.content(places[key]) for i, key in enumerate(photos.keys))
    assert labels_of(open_data(str(photo_folder))) == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_a_spreadsheet_saves_is_read(photo_folder, tmp_path, encoding):
    (photo_folder / "2").rename(photo_folder / "猫")
    rows = "photo;label;correct;split\r\n猫/3.jpg;猫;10;all\r\n1/0.png;1;;all\r\n"
    (tmp_path / "fix.csv").write_bytes(rows.encode(encoding))
    found = labels_of(open_data(str(photo_folder), corrections=tmp_path / "fix.csv"))
    assert found["all", "猫/3.jpg"] == "10"
    assert ("all", "1/0.png") not in found


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1/99.png,1,2,", "line 2: .* has no photo '1/99.png'"),
        ("1/0.png,10,2,", "line 2: 1/0.png is '1' in .*, not '10'; it has changed"),
        ("1/0.png,1,cat,", "line 2: correct is 'cat'"),
        ("1/0.png,1", "line 2: correct is None"),
        ("1/0.png,1,2,\n1/0.png,1,10,", "line 3: 1/0.png is marked as '10', and as '2' before"),
        ("1/0.png,1,1,\n1/0.png,1,,", "line 3: 1/0.png is marked as '', and as '1' before"),
    ],
)
def test_what_does_not_fit_names_file_and_line(photo_folder, tmp_path, row, words):
    with pytest.raises(DataError, match=rf"fix\.csv {words}"):
        open_data(str(photo_folder), corrections=write(tmp_path / "fix.csv", row))


def test_what_is_no_list_of_corrections_is_refused(photo_folder, tmp_path):
    with pytest.raises(DataError, match=r"no\.csv is not there"):
        open_data(str(photo_folder), corrections=tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"the header lacks correct, photo"):
        open_data(str(photo_folder), corrections=write(tmp_path / "x.csv", "1/0.png,1", head="path,label\n"))


def test_lines_that_agree_or_say_what_is_so_are_no_error(photo_folder, tmp_path):
    file = write(tmp_path / "fix.csv", "1/0.png,1,2,", "1/0.png,1,2,all", "1/1.jpg,10,1,")
    data = open_data(str(photo_folder), corrections=file)
    assert labels_of(data)["all", "1/0.png"] == "2"
    assert data.notes[-1].endswith("1 label mended, 0 photos left out, 2 lines without effect")


def test_a_class_whose_last_photo_is_mended_is_gone_and_the_others_keep_their_photos(photo_folder, tmp_path):
    (photo_folder / "1.a").mkdir()
    (photo_folder / "1" / "0.png").rename(photo_folder / "1.a" / "0.png")
    data = open_data(str(photo_folder), corrections=write(tmp_path / "fix.csv", "1.a/0.png,1.a,1,"))
    assert data.classes == ("1", "2", "10")
    assert all(name == (key.split("/")[0] if key != "1.a/0.png" else "1") for (_, key), name in labels_of(data).items())


def test_too_little_left_is_said(photo_folder, tmp_path):
    rows = [f"{c}/{i}.{'jpg' if i % 2 else 'png'},{c},1," for c in (2, 10) for i in range(12)]
    with pytest.raises(DataError, match="leave one class"):
        open_data(str(photo_folder), corrections=write(tmp_path / "fix.csv", *rows))


def test_builtin_data_and_shards_and_lists(photo_folder, tmp_path):
    data = open_builtin("fashion-mini")
    key, old = data.split("test").keys[7], data.classes[int(data.split("test").labels[7])]
    new = next(c for c in data.classes if c != old)
    found = open_data("builtin:fashion-mini", corrections=write(tmp_path / "b.csv", f'"{key}","{old}","{new}",test'))
    assert labels_of(found)["test", key] == new
    listed = write(
        tmp_path / "list.csv", "photos/1/0.png,1", "photos/2/0.png,2", "photos/1/2.png,1", head="path,label\n"
    )
    fix = write(tmp_path / "l.csv", "photos/1/2.png,1,2,")
    assert [*labels_of(open_data(str(listed), corrections=fix)).values()] == ["1", "2", "2"]
    packed(photo_folder, tmp_path / "shards" / "s-%05d.tar")
    fix = write(tmp_path / "s.csv", "2/3.jpg,2,10,", "1/0.png,1,,")
    shards = open_data(str(tmp_path / "shards" / "s-*.tar"), corrections=fix)
    folder = open_data(str(photo_folder), corrections=fix)
    assert sorted(labels_of(shards).values()) == sorted(labels_of(folder).values())
    assert labels_of(shards)["all", "2/3.jpg"] == "10"


def test_photos_of_one_name_are_told_apart_by_their_split(tmp_path):
    one_hot = np.array([0, 1])
    data = DataSet("d", ("a", "b"), {s: files(tmp_path, s, ("x", f"of {s}"), one_hot) for s in ("train", "val")})
    fix = write(tmp_path / "f.csv", "x,a,b,val", "of val,b,a,test")  # where names differ the split does not count
    found, _ = corrected(data, fix, None)
    assert labels_of(found) == {
        ("train", "x"): "a",
        ("train", "of train"): "b",
        ("val", "x"): "b",
        ("val", "of val"): "a",
    }
    with pytest.raises(DataError, match=r"line 2: photos of train, val are called 'x'; the column split"):
        corrected(data, write(tmp_path / "g.csv", "x,a,b,"), None)


def test_boxes_and_several_labels_follow(tmp_path):
    box = (0.0, 0.0, 9.0, 9.0)
    labels = compact([(0, 1), (1,), (2,), (0,)])
    boxes = {0: ((box, 0), (box, 1)), 1: ((box, 1), (box, 2)), 2: ((box, 2),)}
    data = DataSet("d", ("a", "b", "c"), {"all": files(tmp_path, "all", "xyzw", labels, boxes)})
    found, by_name = corrected(data, write(tmp_path / "f.csv", 'x,"a, b",,', "y,b,c,"), None)
    assert found.classes == ("a", "c")  # nothing is of b any more
    assert labels_of(found) == {("all", "y"): "c", ("all", "z"): "c", ("all", "w"): "a"}
    assert found.split("all").boxes == {0: ((box, 1), (box, 1)), 1: ((box, 1),)}
    assert by_name == {"x": "", "y": "c"}
