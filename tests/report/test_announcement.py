"""The block before training: labels, classes and fine-tunes, and how long ones are shortened."""

from typing import Any

from soups.report.announcement import Announcement, format_announcement

VALUES: dict[str, Any] = {"lr": 1e-3, "wd": 0.1, "epochs": 2, "augmentation": "crop", "mix": 0.0, "smoothing": 0.0}


def test_lines_of_one_label_follow_each_other_and_are_wrapped() -> None:
    lines = [("data", "photos"), ("left out", "a " * 60), ("left out", "second")]
    text = format_announcement(Announcement("run p", lines, [("start", "net")], [("warning", "w")]))
    assert text.startswith("run p\n  data       photos\n  left out   a a")
    assert text.count("left out") == 1 and "\n             second\n" in text and text.endswith("\n  warning    w")
    assert max(map(len, text.split("\n"))) <= 80


def test_few_classes_keep_their_order_and_unlabelled_sets_have_only_a_total() -> None:
    classes = {"rust": {"train": 3, "val": 1}, "healthy": {"train": 1200, "val": 0}}
    text = format_announcement(Announcement("run p", classes=classes, sets={"train": 1203, "val": 1, "test": 7}))
    rows = [line.replace("images", "").split() for line in text.split("\n")[1:]]
    assert rows[0] == ["class", "train", "val", "test"] and rows[2] == ["rust", "3", "1", "–"]
    assert rows[3] == ["healthy", "1,200", "0", "–"] and rows[4] == ["2", "classes", "1,203", "1", "7"]


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    classes = {f"c{number}": {"train": number + 1} for number in range(1000)}
    text = format_announcement(Announcement("run p", classes=classes, sets={"train": 500_500}))
    assert len(text.split("\n")) == 16
    assert "c999" in text and "c0 " in text and "c500" not in text and "… 989 more" in text
    assert "1,000 classes  500,500" in text


def test_many_shift_sets_share_a_column_and_long_names_are_cut() -> None:
    sets = dict.fromkeys(("train", "val", "test", "a", "b", "c", "d"), 1)
    text = format_announcement(Announcement("run p", classes={"x" * 80: sets}, sets=sets))
    assert "4 other sets" not in text and "3 other sets" in text and f"{'x' * 29}… " in text


def test_equal_fine_tunes_are_one_line_and_others_a_table() -> None:
    same = format_announcement(Announcement("run p", finetunes={"p0": VALUES, "p1": VALUES}))
    assert "fine-tunes 2, p0 to p1: lr 0.001, wd 0.1, epochs 2, augmentation crop" in same
    assert "fine-tunes p3: lr 0.001" in format_announcement(Announcement("run p", finetunes={"p3": VALUES}))
    others = {f"p{number}": VALUES | {"lr": 1e-3 / (number + 1)} for number in range(72)}
    text = format_announcement(Announcement("run p", finetunes=others))
    assert "p0 0.001 0.1 2 crop" in " ".join(text.split()) and "… 49 more" in text and "p71" in text
