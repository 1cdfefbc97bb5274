"""Schemas: fields, levels, bands and errors."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.data.layouts.schema import is_schema, read_schema

OWN = """
path: "{split}-{kind}/{name}-{size}cm"
group: name
factors:
  kind: {field: kind, levels: {yes: [y, j], no: [n]}}
  size: {field: size, levels: [small, large], bands: [1.5e1]}
"""


def described(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_profile() -> None:
    profile = read_schema("profile")
    assert [(factor.name, factor.levels) for factor in profile.label_factors] == [
        ("mask", ("mask", "incorrect", "normal")),
        ("gender", ("male", "female")),
        ("age", ("young", "middle", "old")),
    ]
    fields = profile.expressions[0].fullmatch("001498-1_male_South_Asian_23")
    assert fields is not None and fields["person"] == "001498-1"
    age = profile.factors["age"]
    assert [age.level(text) for text in ("0", "29", "29.5", "30", "59", "60", "101")] == [
        *("young", "young", "middle", "middle", "middle", "old", "old")
    ]
    assert [age.level(text) for text in ("", "x", "-3", "1e2", "٣٠")] == [None] * 5
    photo = profile.factors["mask"]
    assert [photo.level(text) for text in ("mask5", "incorrect_mask", "normal", "mask6", "Normal")] == [
        *("mask", "incorrect", "normal", None, None)
    ]


def test_other_bands() -> None:
    assert read_schema("profile", (17, 64)).factors["age"].level("18") == "middle"
    with pytest.raises(
        UsageError, match=r"--age-bands for age \(young, middle, old\)(?s:.*)2 upper limits(?s:.*)29 57 80"
    ):
        read_schema("profile", (29, 57, 80))
    with pytest.raises(UsageError, match=r"ascending upper limits"):
        read_schema("profile", (59, 29))


def test_a_schema_from_the_users_file(tmp_path: Path) -> None:
    path = described(tmp_path, OWN)
    own = read_schema(str(path))
    assert is_schema(str(path)) and is_schema("profile") and not is_schema("folder")
    assert own.label_factors[0].levels == ("yes", "no")  # YAML would read them as true and false.
    fields = own.expressions[1].fullmatch("a-b-12cm")
    assert fields is not None and fields.groupdict() == {"name": "a", "size": "b-12"}
    assert own.factors["size"].level("15") == "small" and own.factors["size"].level("15.1") == "large"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("group: name", "group: who", r"'who' to be a field of the path"),
        ("group: name", "groop: name", r"groop(?s:.*)[Ee]xtra"),
        ("{name}-", "{split}-", "each field once, found split twice"),
        ("{split}-{kind}/", "/", "names of folders and of the file"),
        ('path: "{split}-{kind}/{name}-{size}cm"', "image: x", "either `path`"),
        ("bands: [1.5e1]", "bands: [1, 2]", "2 levels need 1 upper limits"),
        ("bands: [1.5e1]", "bands: [soon]", "number"),
        ("levels: [small, large]", "levels: [small]", "2 levels|1 levels need 0"),
        ("  kind: {field", "  label: {field", "another name than label"),
        ("{yes: [y, j], no: [n]}", "{a/b: [y], no: [n]}", "'a/b' cannot be a name"),
        ("group: name", "complete: name", "a factor that lists the values of name"),
        ("group: name", "complete: kind", "to be a field of the file name"),
        ("factors:", "factors: {}\nmore:", "factors|more"),
    ],
)
def test_invalid_schemas_are_errors(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in OWN
    path = described(tmp_path, OWN.replace(old, new))
    with pytest.raises(UsageError, match=words) as raised:
        read_schema(str(path))
    assert str(path) in str(raised.value) and "profile.yaml and change it" in str(raised.value)


def test_invalid_schema_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such file"):
        read_schema("nowhere.yaml")
    with pytest.raises(UsageError, match="not a mapping of settings to values"):
        read_schema(str(described(tmp_path, "- a\n")))
    with pytest.raises(UsageError, match="not readable YAML"):
        read_schema(str(described(tmp_path, "a: [")))
