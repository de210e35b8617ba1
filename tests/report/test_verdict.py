"""Which test a net is judged by."""

from verydeep.report.verdict import main_result

CENTRE, DENSE = {"protocol": "centre", "scales": [256]}, {"protocol": "dense", "scales": [256]}
OWN = {"data": "photos", "crop": 224, "limit": None, "split": "test", "confusion": [[0, 0, 9]]}


def test_a_run_is_judged_by_its_whole_test_whatever_else_was_tested():
    """In the order in which results stand: by split, and of few photos before all."""
    test, few = OWN | DENSE, OWN | DENSE | {"limit": 100}
    train, val = (OWN | DENSE | {"split": split} for split in ("train", "val"))
    assert main_result([few, OWN | CENTRE, test, train, val]) is test
    assert main_result([few, train]) is few
    assert main_result([train, val]) is val
    assert main_result([train]) is train
    assert main_result([OWN | CENTRE, test, test | {"models": ["a", "b"]}, test | {"data": "others"}]) is test
