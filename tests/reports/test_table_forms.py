"""One table of answers, written in 500 ways by hypothesis (in the first tier 150): the vote is right or is refused.

`pytest -s` prints the refusals by reason, each with a form that it refuses."""

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.ensembles import RULES, combine_tables, vote_tables

CLASSES = ("Käse", "cat", "new york")
IMAGES = [f"{folder}/im_{number:02}é.png" for folder in ("a", "b") for number in range(8, 14)]
SPACE = LabelSpace(CLASSES)
EXAMPLES = 500 if os.environ.get("SOUPS_ALL") else 150
MOST_REFUSED = 0.1


def _choose(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Draw the usual value as often as all others together."""
    return st.sampled_from([usual] * max(1, len(others)) + list(others))


@dataclass(frozen=True)
class Form:
    """How a table is written."""

    answers: str
    seed: int
    separator: str
    encoding: str
    newline: str
    last_newline: bool
    index: str | None
    header: bool
    id_name: str
    label_name: str
    extra: str | None
    order: str
    ending: str
    path_separator: str
    unicode_form: Any
    quoting: int
    blanks: bool
    decimal_comma: bool
    upper: bool


FORMS = st.builds(
    Form,
    answers=_choose("names", "indices", "floats", "probabilities", "per cent", "names and probabilities"),
    seed=st.integers(0, 50),
    separator=_choose(",", ";", "\t"),
    encoding=_choose("utf-8", "utf-8-sig", "utf-16", "cp1252"),
    newline=_choose("\n", "\r\n"),
    last_newline=_choose(True, False),
    index=_choose(None, "", "Unnamed: 0"),
    header=st.sampled_from([True] * 15 + [False]),
    id_name=_choose("image", "id", "ImageID", "filename", "sample"),
    label_name=_choose("label", "target", "ans", "prediction", "answer"),
    extra=st.sampled_from([None] * 6 + ["confidence", "in per cent", "Usage", "fold", "width"]),
    order=st.sampled_from(["id first"] * 9 + ["id last"]),
    ending=_choose(".png", "", ".jpg"),
    path_separator=_choose("/", "\\", "./"),
    unicode_form=_choose("NFC", "NFD"),
    quoting=_choose(csv.QUOTE_MINIMAL, csv.QUOTE_ALL),
    blanks=st.sampled_from([False] * 5 + [True]),
    decimal_comma=_choose(False, True),
    upper=st.sampled_from([False] * 5 + [True]),
)


def _probabilities(answers: np.ndarray, seed: int) -> np.ndarray:
    """Return probabilities in thousandths whose highest is that of the answers, (N, 3) float64."""
    values = np.sort(np.random.default_rng(seed).multinomial(1000, [0.1, 0.2, 0.7], len(answers)), axis=1)
    rows = np.arange(len(answers))
    values[rows, answers], values[rows, -1] = values[:, -1].copy(), values[rows, answers].copy()
    return values / 1000


def write(path: Path, form: Form, answers: np.ndarray) -> np.ndarray:
    """Write answers (N,) in a form, and return the order of the rows."""
    rows = np.random.default_rng(form.seed).permutation(len(IMAGES))
    probabilities = _probabilities(answers, form.seed)

    def composed(text: str) -> str:
        return unicodedata.normalize("NFC" if form.encoding == "cp1252" else form.unicode_form, text)

    ids = [image.removesuffix(".png") + form.ending for image in IMAGES]
    if form.path_separator == "./":
        ids = [f"./{name}" for name in ids]
    else:
        ids = [name.replace("/", form.path_separator) for name in ids]

    def number(value: float) -> str:
        text = f"{value:.10g}"
        return text.replace(".", ",") if form.decimal_comma else text

    columns = {form.id_name: [composed(name) for name in ids]}
    if form.answers in ("names", "names and probabilities"):
        columns[form.label_name] = [composed(CLASSES[answer]) for answer in answers]
    elif form.answers in ("indices", "floats"):
        columns[form.label_name] = [f"{answer}.0" if form.answers == "floats" else str(answer) for answer in answers]
    if "probabilities" in form.answers or form.answers == "per cent":
        scale = 100 if form.answers == "per cent" else 1
        for index in np.random.default_rng(form.seed).permutation(len(CLASSES)):
            name = CLASSES[index].upper() if form.upper else CLASSES[index]
            columns[composed(name)] = [number(scale * row[index]) for row in probabilities]
    extras = {
        "confidence": ("confidence", [number(value) for value in probabilities.max(axis=1)]),
        "in per cent": ("confidence", [number(100 * value) for value in probabilities.max(axis=1)]),
        "Usage": ("Usage", ["Public", "Private"] * (len(IMAGES) // 2)),
        "fold": ("fold", [str(row % 3) for row in range(len(IMAGES))]),
        "width": ("width", [str(300 + row % 5) for row in range(len(IMAGES))]),
    }
    if form.extra is not None:
        name, cells = extras[form.extra]
        columns[name] = cells
    names = list(columns) if form.order == "id first" else [*list(columns)[1:], form.id_name]
    lines = [[columns[name][row] for name in names] for row in rows]
    lines = [names, *lines] if form.header else lines
    if form.blanks:
        lines = [[f"{cell} " for cell in line] for line in lines]
    if form.index is not None and form.header:
        lines = [[form.index if place == 0 else str(place - 1), *line] for place, line in enumerate(lines)]
    stream = io.StringIO()
    csv.writer(stream, delimiter=form.separator, lineterminator=form.newline, quoting=form.quoting).writerows(lines)  # type: ignore[arg-type]
    text = stream.getvalue()
    path.write_bytes((text if form.last_newline else text.removesuffix(form.newline)).encode(form.encoding))
    return rows


def voted(result: pd.DataFrame, form: Form) -> list[int]:
    """Return the classes that a vote has written into the first table's columns, in the order of the rows."""
    result = result.rename(columns=lambda name: unicodedata.normalize("NFC", str(name)))
    if form.answers in ("probabilities", "per cent"):
        names = [name.upper() if form.upper else name for name in CLASSES]
        return [int(place) for place in result[names].to_numpy(dtype=np.float64).argmax(axis=1)]
    cells = result[form.label_name if form.header else "label"].astype(str).str.strip()
    return [int(cell) if cell.isdecimal() else CLASSES.index(unicodedata.normalize("NFC", cell)) for cell in cells]


def answers_of_three(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the right vote, and three tables of answers of which each is right for two thirds of the images."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 3, len(IMAGES))
    tables = np.repeat(right[None], 3, axis=0)
    wrong = rng.permutation(len(IMAGES)) % 3
    columns = np.arange(len(IMAGES))
    tables[wrong, columns] = (right + 1 + rng.integers(0, 2, len(IMAGES))) % 3
    return right, list(tables)


def _reason(error: DataError) -> str:
    text = re.sub(r"\S*\d\.csv", "TABLE", error.problem)
    return re.sub(r"'[^']*'|line \d+|\d+ images?.*", "…", text)


def _differences(drawn: Any) -> str:
    form = drawn if isinstance(drawn, Form) else drawn[0]
    values = {each.name: getattr(form, each.name) for each in fields(Form)}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value != getattr(PLAIN, name))


def run_forms(check: Callable[[Any], None], forms: st.SearchStrategy[Any], what: str) -> None:
    """Check drawn forms of one table beside two plain ones; refusals are counted."""
    refused: Counter[str] = Counter()
    example: dict[str, str] = {}
    total = 0

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(forms)
    def examine(drawn: Any) -> None:
        nonlocal total
        total += 1
        try:
            check(drawn)
        except DataError as error:
            refused[_reason(error)] += 1
            example[_reason(error)] = f"{error.found or ''} {_differences(drawn)}"

    examine()
    print(f"\n{what}: {total} forms, {refused.total()} refused")
    for reason, count in refused.most_common():
        print(f"{count:5}  {reason}: {example[reason]}")
    assert refused.total() <= MOST_REFUSED * total


PLAIN = Form(
    *("names", 0, ",", "utf-8", "\n", True, None, True, "image", "label", None, "id first", ".png", "/", "NFC"),
    *(csv.QUOTE_MINIMAL, False, False, False),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


def test_a_table_in_any_form_has_its_vote(folder: Path) -> None:
    def check(drawn: tuple[Form, int]) -> None:
        form, place = drawn
        right, answers = answers_of_three(form.seed)
        forms = [PLAIN, PLAIN]
        forms.insert(place, form)
        paths = [folder / f"{number}.csv" for number in range(3)]
        orders = [write(path, each, given) for path, each, given in zip(paths, forms, answers, strict=True)]
        result = vote_tables(paths, SPACE)
        assert voted(result, forms[0]) == right[orders[0]].tolist()

    run_forms(check, st.tuples(FORMS, st.integers(0, 2)), "one form beside two plain tables")


def test_without_classes_from_a_run_names_decide(folder: Path) -> None:
    def check(form: Form) -> None:
        right, answers = answers_of_three(form.seed)
        paths = [folder / f"{number}.csv" for number in range(3)]
        orders = [write(path, form, given) for path, given in zip(paths, answers, strict=True)]
        assert voted(vote_tables(paths), form) == right[orders[0]].tolist()

    run_forms(check, FORMS, "three tables of one form, no run")


def test_probabilities_in_any_form_have_their_mean(folder: Path) -> None:
    kinds = ("probabilities", "per cent", "names and probabilities")
    forms = FORMS.filter(lambda form: form.header and form.answers in kinds)

    def check(form: Form) -> None:
        _, answers = answers_of_three(form.seed)
        paths = [folder / f"{number}.csv" for number in range(3)]
        plain = Form(**{each.name: getattr(PLAIN, each.name) for each in fields(Form)} | {"answers": "probabilities"})
        written = [form, plain, plain]
        orders = [write(path, each, given) for path, each, given in zip(paths, written, answers, strict=True)]
        result = combine_tables(paths, RULES["soft"], None, SPACE)
        seeds = [each.seed for each in written]
        expected = np.mean([_probabilities(*pair) for pair in zip(answers, seeds, strict=True)], axis=0)
        result = result.rename(columns=lambda name: unicodedata.normalize("NFC", str(name)))
        names = [name.upper() if form.upper else name for name in CLASSES]
        assert np.allclose(result[names].to_numpy(dtype=np.float64), expected[orders[0]], atol=1e-6)

    run_forms(check, forms, "probabilities beside two plain tables")
