"""The drawn people: the layout parses, bytes are equal, and labels are wrong exactly as recorded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.data.samples import make_samples
from soups.data.settings import DataSettings
from tools.demo_data import faces
from tools.demo_data.people import draw_look, draw_mask
from tools.demo_data.settings import FacesSettings

# Many errors of each kind among few people.
FEW = FacesSettings(train_people=12, test_people=4, wrong_gender=0.2, wrong_masks=0.25, wrong_age=0.2, jobs=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faces.make_faces(FEW.model_copy(update={"location": tmp_path_factory.mktemp("data") / "faces"}))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(folder: Path, **settings: object) -> pd.DataFrame:
    return make_samples(DataSettings.model_validate({"data_location": str(folder / "train"), **settings}))


def test_the_layout_is_the_profile_s(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {
        *("train", "eval", "ground_truth", "planted.csv", "relabel.csv", faces.MARKER)
    }
    rows = samples(made)
    assert (rows["split"] == "test").sum() == 4 * 7  # The eval folder is detected.
    rows = rows[rows["split"] != "test"].reset_index()
    assert len(rows) == 12 * 7 and rows["group"].nunique() == 12
    assert set(rows["mask"]) == {"mask", "incorrect", "normal"}
    with Image.open(made / "train" / str(rows["image"][0])) as picture:
        assert picture.size == (384, 512) and picture.mode == "RGB" and picture.format == "JPEG"


def test_corrections_mend_every_planted_error(made: Path) -> None:
    planted = pd.read_csv(made / "planted.csv", dtype=str)
    assert set(planted["factor"]) == {"mask", "gender", "age"}
    given = samples(made).set_index("image")
    mended = samples(made, relabel=str(made / "relabel.csv")).set_index("image")
    for image, factor, before, true in planted.itertuples(index=False):
        assert given.loc[image, factor] == before != true and mended.loc[image, factor] == true
    wrong = {(image, factor) for image, factor in zip(planted["image"], planted["factor"], strict=True)}
    for factor in ("mask", "gender", "age"):
        changed = set(given.index[given[factor] != mended[factor]])
        assert changed == {image for image, of in wrong if of == factor}


def test_the_pictures_show_what_is_true_whatever_the_names_say() -> None:
    honest = FEW.model_copy(update={"wrong_gender": 0.0, "wrong_masks": 0.0, "wrong_age": 0.0})
    with_errors, without = (faces.draw_people(settings)[0] for settings in (FEW, honest))
    planted = [person for person in with_errors if person.errors]
    assert len(planted) == round(0.2 * 12) + round(0.25 * 12) + round(0.2 * 12)
    by_number = {person.number: person for person in without}
    for person in planted:
        same = by_number[person.number]
        assert (person.gender, person.age, person.telling) == (same.gender, same.age, same.telling)
        assert person.folder != same.folder or person.shows != same.shows


def test_test_people_are_others_and_their_names_tell_nothing(made: Path) -> None:
    train, test = faces.draw_people(FEW)
    assert not {person.number for person in train} & {person.number for person in test}
    truth = pd.read_csv(made / "ground_truth" / "truth.csv", dtype={"group": str})
    asked = pd.read_csv(made / "eval" / "info.csv")
    assert asked["ImageID"].tolist() == truth["ImageID"].tolist() and set(asked["ans"]) == {0}
    assert {path.name for path in (made / "eval" / "images").iterdir()} == set(truth["ImageID"])
    for person in test:
        own = truth[truth["group"] == person.name]
        rest = faces.GENDERS.index(person.gender) * 3 + faces.AGES.index(faces.band(person.age))
        assert sorted(own["ans"]) == sorted([rest] * 5 + [6 + rest, 12 + rest])
    assert truth["group"].tolist() != sorted(truth["group"])


def test_imbalance_is_the_original_s() -> None:
    train, test = faces.draw_people(FacesSettings())
    for people in (train, test):
        ages = [faces.band(person.age) for person in people]
        assert abs(ages.count("young") / len(ages) - 0.47) < 0.01 and 0.06 < ages.count("old") / len(ages) < 0.1
        assert abs(sum(person.gender == "female" for person in people) / len(people) - 0.61) < 0.01


def test_equal_settings_give_equal_bytes_whatever_draws_them(made: Path, tmp_path: Path) -> None:
    again = faces.make_faces(FEW.model_copy(update={"location": tmp_path / "again", "jobs": 2}))
    assert files(again) == files(made)
    other = faces.draw_people(FEW.model_copy(update={"seed": 1}))[0]
    assert [person.folder for person in other] != [person.folder for person in faces.draw_people(FEW)[0]]


def test_a_person_stays_the_same_and_attributes_show() -> None:
    looks = [
        draw_look(np.random.default_rng(3), gender, age, True) for gender in ("male", "female") for age in (20, 70)
    ]
    young_man, old_man, young_woman, old_woman = looks
    assert young_woman.length > young_man.length + 0.5 and old_woman.length > old_man.length + 0.5
    assert old_man.wrinkles > young_man.wrinkles + 0.5 and old_woman.wrinkles > young_woman.wrinkles + 0.5
    assert sum(old_man.hair) > sum(young_man.hair)
    rng = np.random.default_rng(0)
    well, wrongly = ([draw_mask(rng, wear, 0, False) for _ in range(50)] for wear in ("mask", "incorrect"))
    assert max(mask.top for mask in well if mask) < min(mask.top for mask in wrongly if mask) - 0.2
    assert draw_mask(rng, "normal", 0, False) is None


def test_existing_folders_are_not_made_again(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert faces.make_faces(FEW.model_copy(update={"location": made})) == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_foreign_folders_are_not_changed(made: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="exists and was not made by the demo"):
        faces.make_faces(FEW.model_copy(update={"location": own}))
    copied = Path(shutil.copytree(made, tmp_path / "copied"))
    (copied / "train" / "images" / "mine.jpg").write_bytes(b"mine")
    (copied / faces.MARKER).write_text(json.dumps({"fingerprint": "another"}))
    with pytest.raises(DataError, match=r"contains a file that the demo did not make(?s:.*)mine\.jpg"):
        faces.make_faces(FEW.model_copy(update={"location": copied}))
    assert (copied / "train" / "images" / "mine.jpg").read_bytes() == b"mine"
