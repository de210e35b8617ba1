"""Photos that belong together, of one patient or scene, stay in one split."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.cli import main
from verydeep.data.groups import LONGEST_PATTERN, group_lines
from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet, Names, Photos
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.data.split import divide
from verydeep.errors import DataError

CLASSES = tuple("abcd")
Rows = list[tuple[str, int, str]]  # key, class, group


def data_of(rows: Rows, classes: int = 4) -> DataSet:
    keys, labels, groups = zip(*rows, strict=True)
    blank = Image.new("RGB", (1, 1))
    photos = Photos("all", Names.of(keys), np.array(labels, np.int64), lambda id: blank, groups=Names.of(groups))
    return DataSet("x", CLASSES[:classes], {"all": photos}, grouped_by="patient")


def rows_of(sizes: list[tuple[int, int, int]]) -> Rows:
    """Groups of so many photos of one class and of another; of each tenth photo no group is known."""
    rows = [(f"{g}/{c}/{i}", c, f"p{g}") for g, (c, n, m) in enumerate(sizes) for i in range(n)]
    rows += [(f"{g}/o{i}", (c + 1) % 4, f"p{g}") for g, (c, n, m) in enumerate(sizes) for i in range(m)]
    return [(key, c, "" if len(key) % 10 == 9 else group) for key, c, group in rows]


def parts_of(data: DataSet) -> dict[str, str]:
    return {key: split for split, photos in data.splits.items() for key in photos.keys}


GROUPS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(0, 3)), min_size=2, max_size=30)


@settings(max_examples=200, deadline=None)
@given(GROUPS, st.floats(0.02, 0.4), st.floats(0, 0.4), st.integers(0, 99), st.randoms())
@example([(0, 9, 0), (0, 1, 0), (1, 1, 0), (1, 1, 0)], 0.1, 0.1, 0, None)
def test_no_group_stands_on_two_sides(
    sizes: list[tuple[int, int, int]], val: float, test: float, seed: int, random: object
) -> None:
    rows = rows_of(sizes)
    try:
        found = parts_of(divide(data_of(rows), (val, test), seed))
    except DataError:  # of each group a class stands in no other
        holding = Counter(c for c, _ in {(c, group or key) for key, c, group in rows})
        assert {g or key for key, _, g in rows} == {g or key for key, c, g in rows if holding[c] == 1}
        return
    assert sorted(found) == sorted(key for key, _, _ in rows)
    sides, counts, held = defaultdict(set), Counter(c for _, c, _ in rows), defaultdict(Counter)
    for key, label, group in rows:
        sides[group or key].add(found[key])
        held[found[key]][label] += 1
    assert {len(splits) for splits in sides.values()} == {1}
    assert all(held["train"][c] for c in counts)  # or training would stop
    if random:
        random.shuffle(rows)  # type: ignore[attr-defined]
        assert parts_of(divide(data_of(rows), (val, test), seed)) == found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=40), min_size=1, max_size=4), st.integers(0, 99))
@example([[9, 1, 1, 1, 1, 1]], 0)
@example([[30, 30, 30], [1, 1]], 0)
def test_each_class_has_its_shares_as_near_as_whole_groups_allow(sizes: list[list[int]], seed: int) -> None:
    """Groups of one class each: beside what is wanted no more than half of a group, and no class is left out."""
    if not any(len(own) > 1 for own in sizes):
        return
    rows = [(f"{c}/{g}/{i}", c, f"{c}-{g}") for c, own in enumerate(sizes) for g, n in enumerate(own) for i in range(n)]
    divided = divide(data_of(rows, len(sizes)), (0.2, 0.1), seed)
    held = {s: np.bincount(p.targets(), minlength=len(sizes)) for s, p in divided.splits.items()}
    for c, own in enumerate(sizes):
        for split, share, least in (("val", 0.2, 2), ("test", 0.1, 3)):
            n = held[split][c] if split in held else 0
            assert n > 0 or len(own) < least
            if len(own) > 9:
                assert abs(n - max(1, round(sum(own) * share))) <= max(own) / 2


@pytest.mark.parametrize("seed", range(40))
def test_no_other_choice_of_groups_is_nearer_by_much(seed: int) -> None:
    """Every way to validate on some of eight groups of two classes, by brute force."""
    random = np.random.default_rng(seed)
    held = random.integers(0, 7, (8, 2)) + np.eye(2, dtype=int)[random.integers(0, 2, 8)]
    rows = [(f"{g}/{c}/{i}", c, f"{g}") for g in range(8) for c in range(2) for i in range(held[g, c])]
    total, share = held.sum(0), 0.3
    wanted = np.maximum(1, np.round(total * share))

    def miss(chosen: np.ndarray) -> float:
        return float((np.abs(chosen @ held - wanted) / total).sum())

    ways = [np.array(way) for way in product((0, 1), repeat=8)]
    ways = [w for w in ways if ((1 - w) @ held > 0).all()]
    photos = divide(data_of(rows, 2), (share, 0.0), 0).split("val")
    ours = miss(np.isin(np.arange(8), [int(key.split("/")[0]) for key in photos.keys]).astype(int))
    missed = sorted(map(miss, ways))
    assert ours <= missed[0] + 0.15
    assert missed[len(missed) // 2] > missed[0] + 0.3  # where some way is taken


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4).filter(lambda n: max(n) > 1), st.integers(0, 99))
def test_groups_of_one_photo_divide_as_no_groups_do(sizes: list[int], seed: int) -> None:
    rows = [(f"{c}/{i}", c, "") for c, n in enumerate(sizes) for i in range(n)]
    grouped = data_of(rows, len(sizes))
    plain = Photos("all", grouped.split("all").keys, grouped.split("all").targets(), lambda id: b"")
    expected = divide(DataSet("x", grouped.classes, {"all": plain}), (0.15, 0.25), seed)
    assert parts_of(divide(grouped, (0.15, 0.25), seed)) == parts_of(expected)


def test_a_new_group_moves_few_photos() -> None:
    random, moved = np.random.default_rng(0), []
    for trial in range(60):
        sizes = [(int(c), int(n), 0) for c, n in zip(random.integers(0, 4, 80), random.integers(1, 9, 80), strict=True)]
        before = parts_of(divide(data_of(rows_of(sizes)), (0.2, 0.2), trial))
        after = parts_of(divide(data_of(rows_of([*sizes, (0, 5, 0)])), (0.2, 0.2), trial))
        moved.append(np.mean([after[key] != split for key, split in before.items()]))
    assert np.mean(moved) < 0.05  # drawn anew, more than half would move


# Where groups come from


def manifest(folder: Path, header: str, *lines: str, name: str = "photos.csv") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    for line in lines:
        Image.new("RGB", (40, 40), "red").save(folder / line.split(",")[0])
    return str(folder / name)


def of_patients(folder: Path, column: str = "patient", **more: str) -> str:
    """Six patients with four photos each, two of each class."""
    lines = [f"{p}{i}.png,{'xy'[i % 2]},{p}" for p in "abcdef" for i in range(4)]
    return manifest(folder, f"path,label,{column}", *lines, **more)


@pytest.mark.parametrize(
    "column",
    ["group", "group_id", "patient", "patient_id", "subject", "scene", "video", "lesion_id", "Series", "StudyID"],
)
def test_a_column_of_a_known_name_is_used_and_said(tmp_path: Path, column: str) -> None:
    data = open_data(of_patients(tmp_path, column), (0.2, 0.2))
    sides = {(key[0], split) for key, split in parts_of(data).items()}
    assert len(sides) == 6
    assert len(data.splits) == 3
    assert group_lines(data) == [f"photos of one {column!r} stay together (24 photos in 6 groups)"]


def test_another_column_is_warned_of_and_used_when_it_is_asked_for(tmp_path: Path) -> None:
    path = of_patients(tmp_path, "PatientNr")
    (said,) = group_lines(open_data(path, (0.2, 0.2)))
    assert said.startswith("warning: the column 'PatientNr'")
    assert "--groups PatientNr" in said
    assert group_lines(open_data(path, (0.2, 0.2), groups="PatientNr"))[0].startswith("photos of one 'PatientNr'")
    assert data_lines(open_data(manifest(tmp_path / "b", "path,label,is_valid", "a.png,x,0", "b.png,y,1")))
    assert not group_lines(open_data(manifest(tmp_path / "c", "path,label,width", "a.png,x,0", "b.png,y,1")))


def test_json_lines_say_groups_too(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.png", "label": "xy"[i % 2], "patient": i // 4 or None} for i in range(24)]
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = open_data(str(tmp_path / "x.jsonl"), (0.2, 0.2))
    assert list(data.split("train").groups or ())
    assert "(20 photos in 5 groups; 4 photos without one, each a group of its own)" in group_lines(data)[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "a", "label": "x", "group": ["b"]}', r"line 1: group is \['b'\], expected some text"),
        ('{"path": "a", "label": "x", "group": 1}\n{"path": "a", "label": "y"}', "a stands in two groups"),
    ],
)
def test_groups_that_cannot_be_are_explained(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "x.jsonl"))


def test_a_pattern_finds_groups_in_paths(photo_folder: Path) -> None:
    data = open_data(str(photo_folder), (0.2, 0.2), groups=r"^(\d+/\d)\d?\.(?:png|jpg)$")
    assert {len({split for k, split in parts_of(data).items() if k[:4] in (f"{c}/1.", f"{c}/10", f"{c}/11")})
            for c in (1, 2)} == {1}  # fmt: skip
    (said,) = [line for line in group_lines(data) if "stay" in line]
    assert said.endswith("(36 photos in 30 groups)")
    some = open_data(str(photo_folder), (0.2, 0.2), groups="^1/[0-3]\\.")
    assert "(4 photos in 4 groups; 32 photos without one, each a group of its own)" in group_lines(some)[0]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("patinet", r"'patinet' is no column of the list \(path, label, who\) and matches no path, such as 'a0.png'"),
        ("(", "'\\(' is no column .* and no regular expression \\(.*expected a column, or a regular expression"),
        ("(?:x{65535}){65536}{9}", "no regular expression"),
        ("a" * (LONGEST_PATTERN + 1), "and is no pattern of at most 200 letters"),
        ("", "'' is no column"),
        ("path", "'path' is no column"),
    ],
)
def test_what_is_no_column_and_no_pattern_is_explained(tmp_path: Path, groups: str, message: str) -> None:
    path = of_patients(tmp_path, "who")
    with pytest.raises(DataError, match=f"groups: .*{message}"):
        open_data(path, (0.2, 0.2), groups=groups)


def test_a_path_beyond_the_limit_is_a_group_of_its_own(tmp_path: Path) -> None:
    far = "d/" * 600
    path = tmp_path / "x.csv"
    Image.new("RGB", (4, 4)).save(tmp_path / "a1.png")
    path.write_text(f"path,label\na1.png,x\na2.png,y\n{far}a3.png,x\n{far}a4.png,y\n")
    assert "(2 photos in 1 group; 2 photos without" in group_lines(open_data(str(path), groups="(a)"))[0]


# What keeps them


def test_a_kept_split_keeps_its_groups(tmp_path: Path) -> None:
    data = open_data(of_patients(tmp_path), (0.2, 0.2))
    write_split(data, tmp_path / "split.csv")
    again = open_data(str(tmp_path / "photos.csv"), split=tmp_path / "split.csv")
    assert again.fingerprint() == data.fingerprint()
    assert {s: list(p.groups or ()) for s, p in again.splits.items()} == {
        s: list(p.groups or ()) for s, p in data.splits.items()
    }


def test_a_run_says_its_groups_and_goes_on_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8"]
    path, out = of_patients(tmp_path, "who"), str(tmp_path / "run")
    words = ["train", path, "--out", out, *tiny, "--groups", "who", "--val_share", "0.2"]
    assert main([*words, "--epochs", "1"]) == 0
    assert "photos of one 'who' stay together (24 photos in 6 groups)" in capsys.readouterr().err
    assert "groups: who" in (tmp_path / "run" / "config.yaml").read_text()
    split = (tmp_path / "run" / "split.csv").read_bytes()
    assert main([*words, "--epochs", "2"]) == 0
    assert (tmp_path / "run" / "split.csv").read_bytes() == split
    lines = [line.split(",") for line in split.decode().splitlines()[1:]]
    assert len({(group, part) for _, _, part, group in lines}) == 6
    assert main([*words[:-4], "--val_share", "0.2", "--epochs", "2"]) == 1
    assert "groups (who then, None now)" in capsys.readouterr().err


def test_shards_divide_as_their_photos_do(tmp_path: Path) -> None:
    path, out = of_patients(tmp_path, "who"), str(tmp_path / "s-%05d.tar")
    assert main(["pack", path, "--out", out, "--groups", "who"]) == 0
    packed, data = open_data(out, (0.2, 0.2), 3), open_data(path, (0.2, 0.2), 3, groups="who")
    assert packed.fingerprint() == data.fingerprint()
    assert group_lines(packed) == group_lines(data)


def test_the_hub_has_groups_too(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    of_patients(tmp_path, "x")
    rows = {
        "image": [str(tmp_path / "a0.png")] * 24,
        "label": [i % 2 for i in range(24)],
        "patient": [i // 4 or None for i in range(24)],
    }
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["x", "y"]),
                                 patient=datasets.Value("int64"))  # fmt: skip
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "hub"))
    data = open_data(f"hub:{tmp_path / 'hub'}", (0.2, 0.2))
    (said,) = group_lines(data)
    assert said.startswith("photos of one 'patient' stay together (20 photos in 5 groups; 4 photos without one")


def test_the_doctor_says_what_train_would_do_and_finds_torn_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", of_patients(tmp_path)]) == 0
    assert "photos of one 'patient' stay together (24 photos in 6 groups)" in capsys.readouterr().out
    lines = [f"{p}{i}.png,{'xy'[i % 2]},{'val' if p + str(i) > 'f1' or p == 'e' else 'train'},{p}"
             for p in "abcdef" for i in range(4)]  # fmt: skip
    own = manifest(tmp_path / "own", "path,label,split,patient", *lines)
    assert main(["check", own, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    (torn,) = [f for f in record["findings"] if f["id"] == "torn-groups"]
    assert (torn["count"], torn["groups"]) == (4, 1)
    assert {(e["name"], e["split"]) for e in torn["examples"]} == {
        ("f0.png", "train"), ("f1.png", "train"), ("f2.png", "val"), ("f3.png", "val")
    }  # fmt: skip
    assert "1 of 6 groups by 'patient' stand in several splits, 'f' for one" in record["groups"][0]
