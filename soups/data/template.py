"""What a submission template asks for: class names, class indices or probabilities, and in which columns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from soups.core.labels import LabelSpace
from soups.files.tables import LABEL_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_OTHER_COLUMNS = ("usage", "group", "fold", "split", "confidence")
"""Columns beside the answer that competitions use, in lower case."""

_SHOWN = 3


@dataclass(frozen=True)
class TemplateForm:
    """What a template asks for."""

    kind: Literal["names", "indices", "probabilities"]
    columns: dict[str, int]
    """Column → index of the class whose probability it takes; for names and indices the answer's column → 0."""
    no_classes: tuple[str, ...] = ()
    """Columns of probabilities that are no class of the run; they take 0."""
    text: str = ""
    """How the template was understood, in one line."""


def read_form(template: "pd.DataFrame", space: LabelSpace) -> TemplateForm:
    """Return what a template of N rows with text cells asks for, from its columns and placeholders.

    - A column for each class, in any case, and no column with a usual name of answers: probabilities. Other columns of
      numbers beside them take 0.
    - Otherwise the answer is in the column with a usual name (`target`, `label`, …), else in the last column that is
      none of `Usage`, `group`, `fold`, `split`, `confidence`.
    - Fractions between 0 and 1 in it, for two classes: the probability of class 1.
    - Whole numbers: indices, unless all classes are whole numbers themselves, which are names.
    - Anything else: names. If labels are made of factors, an empty column means indices.
    """
    columns = [str(column) for column in template.columns[1:]]
    by_class = _columns_by_class(columns, space)
    rest = [column for column in columns if column not in by_class]
    has_answer = any(column.strip().lower() in LABEL_COLUMNS for column in rest)
    if len(set(by_class.values())) == len(space) == len(by_class) and not has_answer:
        no_classes = tuple(column for column in rest if _is_number_column(template[column]))
        text = "a column for each class takes its probability"
        if no_classes:
            text += f"; {', '.join(no_classes)} is no class of the run and takes 0"
        return TemplateForm("probabilities", by_class, no_classes, text)
    answer = _answer_column(columns)
    cells = set(template[answer].str.strip())
    if len(space) == 2 and _has_fractions(cells):
        text = f"column {answer!r} takes the probability of class 1, {space.names[1]}"
        return TemplateForm("probabilities", {answer: 1}, text=text)
    if _asks_for_indices(cells, space):
        shown = ", ".join(f"{index} = {name}" for index, name in enumerate(space.names[:_SHOWN]))
        more = ", …" if len(space) > _SHOWN else ""
        if len(space) == 2 and cells == {"0"}:
            more = "; --probabilities writes probabilities beside them"
        return TemplateForm(
            "indices", {answer: 0}, text=f"answers are class indices in column {answer!r}: {shown}{more}"
        )
    return TemplateForm("names", {answer: 0}, text=f"answers are class names in column {answer!r}")


def _columns_by_class(columns: list[str], space: LabelSpace) -> dict[str, int]:
    """Return column → index of its class; the case counts only where two classes differ by nothing else."""
    exact = {name: index for index, name in enumerate(space.names)}
    folded = {name.casefold(): index for name, index in exact.items()}
    if len(folded) < len(exact):
        folded = {}
    found = {column: exact.get(column.strip(), folded.get(column.strip().casefold(), -1)) for column in columns}
    return {column: index for column, index in found.items() if index >= 0}


def _answer_column(columns: list[str]) -> str:
    usual = [column for name in LABEL_COLUMNS for column in columns if column.strip().lower() == name]
    others = [column for column in columns if column.strip().lower() not in _OTHER_COLUMNS]
    return next(iter(usual), (others or columns)[-1])


def _is_number_column(cells: "pd.Series[str]") -> bool:
    import pandas as pd

    return bool(pd.to_numeric(cells, errors="coerce").notna().all())


def _has_fractions(cells: set[str]) -> bool:
    """Whether all cells are numbers in [0, 1], and one is neither 0 nor 1."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return False
    return all(0 <= number <= 1 for number in numbers) and any(number not in (0, 1) for number in numbers)


def _asks_for_indices(cells: set[str], space: LabelSpace) -> bool:
    if space.factors and not any(cells):
        return True
    are_whole = bool(cells) and all(cell.removeprefix("-").isdecimal() for cell in cells)
    return are_whole and not all(name.isdecimal() for name in space.names) and not cells <= set(space.names)
