"""Tables of predictions and of true classes: ids, classes, probabilities."""

from collections.abc import Callable
from pathlib import Path

from tools.tried_cases.case import Case

_HARD = ("inference --hard-voting a.csv b.csv c.csv --output vote.csv",)
_SOFT = ("inference --soft-voting a.csv b.csv --output vote.csv",)
_VALIDATE = ("validation --predictions a.csv --ground-truth truth.csv",)
_CATS = "image,label\nx.png,cat\ny.png,dog\n"
_OWN = "image,target,confidence,cat,dog\nx.png,cat,0.9,0.9,0.1\ny.png,dog,0.6,0.4,0.6\n"
_OTHER = "image,target,confidence,dog,cat\ny.png,cat,0.8,0.2,0.8\nx.png,cat,0.7,0.3,0.7\n"


def _make(**tables: str) -> Callable[[Path], None]:
    """Return a function that writes `a.csv` for `a="..."`."""

    def make(folder: Path) -> None:
        for name, text in tables.items():
            (folder / f"{name}.csv").write_bytes(text.encode())

    return make


def _voted(*lines: str) -> Callable[[Path], None]:
    """Return a check of the rows of `vote.csv`, its header included."""

    def check(folder: Path) -> None:
        found = (folder / "vote.csv").read_text().splitlines()
        assert found == list(lines), found

    return check


CASES: list[Case] = [
    Case(
        "the index column of pandas, rows in different orders",
        _make(
            a=",image,label\n0,x,cat\n1,y,dog\n", b=",image,label\n0,y,dog\n1,x,cat\n", c="image,label\ny,dog\nx,dog\n"
        ),
        _HARD,
        check=_voted("image,label", "x,cat", "y,dog"),
    ),
    Case(
        "an index column against the truth",
        _make(
            a=",image,label\n0,y,dog\n1,x,cat\n2,z,cat\n", truth="Unnamed: 0,image,label\n0,x,cat\n1,y,dog\n2,z,cat\n"
        ),
        _VALIDATE,
        says=("3 of 3 images right",),
    ),
    Case(
        "no header",
        _make(
            a="im0.png,cat\nim1.png,dog\n", b="im1.png,dog\nim0.png,cat\n", c="image,label\nim0.png,dog\nim1.png,cat\n"
        ),
        _HARD,
        says=("no header; its columns are read as image and label",),
        check=_voted("image,label", "im0.png,cat", "im1.png,dog"),
    ),
    Case(
        "no header, numbers as ids and each class once",
        _make(a="17,cat\n18,dog\n", b="id,label\n17,cat\n18,dog\n", c="id,label\n18,dog\n17,cat\n"),
        _HARD,
        check=_voted("image,label", "17,cat", "18,dog"),
    ),
    Case(
        "probabilities without a header",
        _make(a="17,0.9,0.1\n18,0.2,0.8\n", b=_OWN),
        _SOFT,
        3,
        says=("a.csv: no header", "next: add such a line"),
    ),
    Case(
        "ids with and without endings, in the paths of Windows, answers before ids",
        _make(
            a="image,label\np/x.png,cat\np/y.png,dog\n",
            b="label,file\ncat,p\\x\ndog,p\\y\n",
            c="id,ans\np/y,cat\np/x,dog\n",
        ),
        _HARD,
        check=_voted("image,label", "p/x.png,cat", "p/y.png,dog"),
    ),
    Case(
        "row numbers instead of ids",
        _make(a=",label\n0,cat\n1,dog\n", b=",label\n0,cat\n1,dog\n", c=",label\n0,cat\n1,dog\n"),
        _HARD,
        3,
        says=("which column holds the image's id is not clear", "next: name the column of ids: image"),
    ),
    Case(
        "our own probabilities, soft vote",
        _make(a=_OWN, b=_OTHER),
        _SOFT,
        check=_voted(
            "image,target,confidence,cat,dog",
            "x.png,cat,0.8,0.8,0.2",
            "y.png,cat,0.6000000000000001,0.6000000000000001,0.4",
        ),
    ),
    Case(
        "our own probabilities, weighted",
        _make(a=_OWN, b=_OTHER, truth=_CATS),
        ("inference --weighted-ensemble a.csv=1 b.csv=0 --output vote.csv --ground-truth truth.csv",),
        says=("2 of 2 right",),
        check=_voted("image,target,confidence,cat,dog", "x.png,cat,0.9,0.9,0.1", "y.png,dog,0.6,0.4,0.6"),
    ),
    Case(
        "weights are not fitted for tables",
        _make(a=_OWN, b=_OTHER),
        ("inference --weighted-ensemble a.csv b.csv --output vote.csv",),
        2,
        says=("tables without weights", "next: --weighted-ensemble a.csv=1 b.csv=1, or --soft-voting"),
    ),
    Case(
        "our own probabilities against the truth",
        _make(a=_OWN, truth=_CATS),
        _VALIDATE,
        says=("2 of 2 images right", "log-loss 0.308", "calibration error 25.0%"),
    ),
    Case(
        "classes in a soft vote",
        _make(a=_OWN, b=_CATS),
        _SOFT,
        3,
        says=("b.csv: has classes, but no probabilities", "next: vote on classes: --hard-voting"),
    ),
    Case(
        "classes and probabilities in a hard vote",
        _make(
            a="image,cat,dog\nx,0.9,0.1\ny,0.4,0.6\n", b="image,label\nx,cat\ny,cat\n", c="image,label\nx,dog\ny,dog\n"
        ),
        _HARD,
        check=_voted(
            "image,cat,dog", "x,0.6666666666666666,0.3333333333333333", "y,0.3333333333333333,0.6666666666666666"
        ),
    ),
    Case(
        "a class that nobody votes for has a share of 0",
        _make(a="image,label,cat,dog,eel\nx,cat,0.5,0.2,0.3\n", b="image,label\nx,cat\n", c="image,label\nx,dog\n"),
        _HARD,
        check=_voted("image,label,cat,dog,eel", "x,cat,0.6666666666666666,0.3333333333333333,0.0"),
    ),
    Case(
        "a table as a model",
        _make(a=_OWN),
        ("inference --model-name a.csv",),
        2,
        says=("a.csv: a table, not a model", "next: python validation.py --predictions a.csv"),
    ),
    Case(
        "a table beside a model",
        _make(a=_OWN),
        ("inference --soft-voting a.csv digits3",),
        2,
        says=(
            "digits3 is not a CSV",
            "next: write the model's predictions first: python inference.py",
            "--probabilities",
        ),
    ),
    Case(
        "a tie between 51 per cent and 0.99",
        _make(a="image,label,confidence\nx,cat,51\n", b="image,label,confidence\nx,dog,0.99\n"),
        ("inference --hard-voting a.csv b.csv --output vote.csv",),
        says=("the confidence is in per cent; divided by 100",),
        check=_voted("image,label,confidence", "x,dog,0.5"),
    ),
    Case(
        "decimal commas in per cent",
        _make(a="image;cat;dog\nx;97,5;2,5\ny;40;60\n", b="image,dog,cat\ny,0.75,0.25\nx,0.5,0.5\n"),
        _SOFT,
        says=("numbers have decimal commas", "probabilities are in per cent; divided by 100"),
        check=_voted("image,cat,dog", "x,0.7375,0.2625", "y,0.325,0.675"),
    ),
    Case(
        "logits",
        _make(a="image,cat,dog\nx,0.4,0.6\ny,3.1,-2.0\n", b=_OWN),
        _SOFT,
        3,
        says=(
            "a.csv, line 3: no probabilities that sum to 1",
            "3.1, -2, which sum to 1.1",
            "next: logits: write their softmax",
        ),
    ),
    Case(
        "probabilities of several labels",
        _make(a="image,cat,dog\nx,0.4,0.6\ny,0.8,0.9\n", b=_OWN),
        _SOFT,
        3,
        says=("a.csv, line 3: no probabilities that sum to 1", "which sum to 1.7; 1 such rows"),
    ),
    Case(
        "an empty probability",
        _make(a="image,cat,dog\nx,0.4,0.6\ny,,1\n", b=_OWN),
        _SOFT,
        3,
        says=("a.csv, line 3: the probability of 'cat' is not a number",),
    ),
    Case(
        "a class that one table lacks",
        _make(a="image,cat,dog,eel\nx.png,0.4,0.6,0\ny.png,0.1,0.9,0\n", b=_OWN),
        _SOFT,
        3,
        says=("b.csv: has probabilities of other classes", "expected: cat, dog, eel"),
    ),
    Case(
        "columns of classes in another case",
        _make(a=_OWN, b="image,Dog,Cat\nx.png,0.1,0.9\ny.png,0.5,0.5\n"),
        _SOFT,
        3,
        says=("the class 'Dog' is 'dog' in a.csv, which differs only by case or zeros", "next: write it alike"),
    ),
    Case(
        "an id twice, and an id too few",
        _make(a=_OWN, b=_OWN + "x.png,dog,0.9,0.1,0.9\n"),
        _SOFT,
        3,
        says=("b.csv, line 4: the id 'x.png' appears twice",),
    ),
    Case("an image that one table lacks", _make(a=_OWN, b=_OWN[:53]), _SOFT, 3, says=("b.csv: lacks 1 image: y.png",)),
    Case(
        "ids that lost their leading zeros",
        _make(a="image,label\n007,cat\n012,dog\n", truth="image,label\n7,cat\n12,dog\n"),
        _VALIDATE,
        3,
        says=("one of the tables has lost the leading zeros of its ids",),
    ),
    Case(
        "the probability of the second class",
        _make(a="id,target\nx,0.9\ny,0.3\n", b="id,target\ny,0.6\nx,0.5\n"),
        _SOFT,
        says=("column 'target' is the probability of the second class",),
        check=_voted("id,target", "x,0.7", "y,0.44999999999999996"),
    ),
    Case(
        "folds beside classes",
        _make(a="id,class,fold\nx,cat,0\ny,dog,1\n", truth="id,label\nx,cat\ny,dog\n"),
        _VALIDATE,
        says=("2 of 2 images right",),
    ),
    Case(
        "folds alone",
        _make(a="id,fold\nx,0\ny,1\n", truth="id,label\nx,0\ny,1\n"),
        _VALIDATE,
        3,
        says=("a.csv: which column holds the class is not clear",),
    ),
    Case(
        "two columns of classes that differ",
        _make(a="image,label,prediction\nx,cat,dog\ny,dog,dog\n", truth="id,label\nx,cat\ny,dog\n"),
        _VALIDATE,
        3,
        says=("a.csv: which column holds the class is not clear", "next: keep only the column of classes"),
    ),
    Case(
        "names in one table and numbers in the other",
        _make(a="id,label\nx,0\ny,1\n", truth="id,label\nx,cat\ny,dog\n"),
        _VALIDATE,
        3,
        says=(
            "a.csv: has classes as numbers, truth.csv as names",
            "next: name the run with these classes: --name NAME",
        ),
    ),
    Case(
        "a class in two cases against the truth",
        _make(a="id,label\nx,Cat\ny,Dog\n", truth="id,label\nx,cat\ny,dog\n"),
        _VALIDATE,
        3,
        says=("in truth.csv, which differs only by case or zeros",),
    ),
    Case(
        "disagreement of tables with an index column and other endings",
        _make(a=",image,label\n0,x.png,cat\n1,y.png,dog\n", b="label,image\ncat,y\ncat,x\n"),
        ("disagreement --members a.csv b.csv --output divided.csv",),
        check=lambda folder: _starts(folder / "divided.csv", "y.png,0.693147"),
    ),
]


def _starts(path: Path, text: str) -> None:
    first = path.read_text().splitlines()[1]
    assert first.startswith(text), first
