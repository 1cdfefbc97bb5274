"""Drawn people in the mask competition's format: seven photos each, labels in file names, some wrong on purpose.

All wrong labels are recorded (`planted.csv`), with their corrections (`relabel.csv`) and the true test labels
(`ground_truth/truth.csv`), so that label-error detection can be measured.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soups.core.processors import available_cores
from soups.files.atomic import write_table
from soups.runtime.workers import run_all
from tools.demo_data.folders import DataSet
from tools.demo_data.people import MASKS, Look, Shot, draw_look, draw_shot
from tools.demo_data.portraits import portrait
from tools.demo_data.settings import FacesSettings

if TYPE_CHECKING:
    import numpy as np

MARKER = "faces.json"
RECIPE = 1  # Increase this when equal settings give different images.
PHOTOS = {f"mask{number}": "mask" for number in range(1, 6)} | {"incorrect_mask": "incorrect", "normal": "normal"}
"""Photo name → how the mask is worn."""
WEARS, GENDERS, AGES = ("mask", "incorrect", "normal"), ("male", "female"), ("young", "middle", "old")
AGE_RANGES = {"young": (18, 29), "middle": (30, 59), "old": (60, 79)}
TRUTH, INFO, PLANTED, RELABEL = "ground_truth/truth.csv", "eval/info.csv", "planted.csv", "relabel.csv"

_FILES = re.compile(
    rf"train/images/\d{{6}}_(male|female)_Asian_\d+/({'|'.join(PHOTOS)})\.jpg|eval/images/[0-9a-f]{{40}}\.jpg|"
    + "|".join(map(re.escape, (TRUTH, INFO, PLANTED, RELABEL)))
)
_PHOTOS_A_JOB = 56
# Beta distributions over each age band, with few people at its ends.
_AGES_LEAN = {"young": (1.2, 2.6), "middle": (2.6, 1.8), "old": (1.6, 2.0)}
_DOUBTS = {"mask": 0.6, "incorrect": 2.0, "normal": 1.0}


@dataclass(frozen=True)
class Person:
    """A person with true attributes and the wrong ones of their folder name, if any."""

    number: int
    gender: str
    age: int
    telling: bool
    """Whether the hair shows the gender."""
    doubtful: frozenset[str]
    """Photos in which it is ambiguous how the mask is worn."""
    shows: dict[str, str] = field(default_factory=lambda: dict(PHOTOS))
    """Photo name → how the mask is really worn."""
    given_gender: str = ""
    given_age: int = 0

    @property
    def name(self) -> str:
        """Name of the person's group."""
        return f"{self.number:06d}"

    @property
    def folder(self) -> str:
        """Name of the person's folder, which holds the given labels."""
        return f"{self.name}_{self.given_gender or self.gender}_Asian_{self.given_age or self.age}"

    @property
    def errors(self) -> list[tuple[str, str, str, str]]:
        """Photo name, factor, given level and true level of each wrong label."""
        errors = [(photo, "mask", PHOTOS[photo], true) for photo, true in self.shows.items() if true != PHOTOS[photo]]
        if self.given_gender:
            errors += [(photo, "gender", self.given_gender, self.gender) for photo in PHOTOS]
        if self.given_age:
            errors += [(photo, "age", band(self.given_age), band(self.age)) for photo in PHOTOS]
        return errors


class Photo(NamedTuple):
    """One image file."""

    person: Person
    name: str
    """Key of `PHOTOS`."""
    path: str
    """Path below the data set's folder."""


def make_faces(settings: FacesSettings) -> Path:
    """Draw the people unless the folder exists.

    Layout: `train/images/<id>_<gender>_Asian_<age>/<photo>.jpg`, seven photos each; `eval/images/<40 hex digits>.jpg`,
    the same photos of other people, with the template `eval/info.csv` (`ImageID,ans`, all 0); and the three tables of
    true labels. RGB JPEG, 384 × 512. Equal settings give equal files; each person has a seed of its own. The marker
    `faces.json` is written last.

    Returns:
        The folder, `settings.location`.

    Raises:
        DataError: The folder exists and contains files that this function did not make.
        EnvironmentFailure: The disk is full, or the folder is not writable.
    """
    identity = {"recipe": RECIPE, "settings": settings.model_dump(mode="json", exclude={"location", "jobs"})}
    example = "photos and tables under the names that it gives"
    data_set = DataSet(MARKER, identity, "*.jpg", _FILES, example, (TRUTH, INFO, PLANTED, RELABEL))
    return data_set.make(settings.location, lambda folder: _write_files(folder, settings))


def band(age: int) -> str:
    """Return the competition's age level."""
    return next(level for level, (_, last) in AGE_RANGES.items() if age <= last)


def class_index(wear: str, gender: str, age: int) -> int:
    """Return the competition's class, 0 … 17: mask · 6 + gender · 3 + age."""
    return WEARS.index(wear) * 6 + GENDERS.index(gender) * 3 + AGES.index(band(age))


def draw_people(settings: FacesSettings) -> tuple[list[Person], list[Person]]:
    """Return the training people, some with wrong labels, and the test people."""
    import numpy as np

    train = _population(settings, settings.train_people, 0)
    test = _population(settings, settings.test_people, settings.train_people)
    return _with_errors(train, settings, np.random.default_rng([settings.seed, 1])), test


def _population(settings: FacesSettings, count: int, first: int) -> list[Person]:
    """Return people with the requested shares of genders and age bands, rounded to whole people."""
    import numpy as np

    rng = np.random.default_rng([settings.seed, 0, first])
    women, young, old = (round(share * count) for share in (settings.female, settings.young, settings.old))
    genders = rng.permutation(["female"] * women + ["male"] * (count - women))
    bands = rng.permutation(["young"] * young + ["old"] * old + ["middle"] * (count - young - old))
    return [
        _person(first + place + 1, str(gender), str(level), settings)
        for place, (gender, level) in enumerate(zip(genders, bands, strict=True))
    ]


def _person(number: int, gender: str, level: str, settings: FacesSettings) -> Person:
    import numpy as np

    rng = np.random.default_rng([settings.seed, 2, number])
    low, high = AGE_RANGES[level]
    age = low + round((high - low) * rng.beta(*_AGES_LEAN[level]))
    telling = bool(rng.random() >= settings.doubtful_hair)
    doubtful = [photo for photo, wear in PHOTOS.items() if rng.random() < settings.doubtful_masks * _DOUBTS[wear]]
    return Person(number, gender, age, telling, frozenset(doubtful))


def _with_errors(people: Sequence[Person], settings: FacesSettings, rng: "np.random.Generator") -> list[Person]:
    """Plant label errors: at most one kind per person, and only visible ones."""
    changed = {person.number: person for person in people}
    free = [people[place] for place in rng.permutation(len(people))]
    for share, make_wrong, shown in (
        (settings.wrong_gender, _wrong_gender, lambda person: person.telling),
        (settings.wrong_masks, _wrong_mask, lambda person: not person.doubtful & {"incorrect_mask", "normal"}),
        (settings.wrong_age, _wrong_age, lambda person: True),
    ):
        for _ in range(round(share * len(people))):
            person = next(filter(shown, free), free[0])
            free.remove(person)
            changed[person.number] = make_wrong(person, rng)
    return list(changed.values())


def _wrong_gender(person: Person, rng: "np.random.Generator") -> Person:
    return replace(person, given_gender=next(gender for gender in GENDERS if gender != person.gender))


def _wrong_mask(person: Person, rng: "np.random.Generator") -> Person:
    """Plant a mask error: swap incorrect_mask and normal, or wear the mask well in incorrect_mask."""
    wrong = {"incorrect_mask": "normal", "normal": "incorrect"} if rng.random() < 0.5 else {"incorrect_mask": "mask"}
    return replace(person, shows=person.shows | wrong)


def _wrong_age(person: Person, rng: "np.random.Generator") -> Person:
    other = [level for level in AGES if level != band(person.age)]
    low, high = AGE_RANGES[other[int(rng.integers(len(other)))]]
    return replace(person, given_age=int(rng.integers(low + 1, high)))


def _write_files(folder: Path, settings: FacesSettings) -> int:
    """Write all files below `folder`; returns the number of images."""
    train, test = draw_people(settings)
    photos = [Photo(person, name, f"train/images/{person.folder}/{name}.jpg") for person in train for name in PHOTOS]
    test_photos = [Photo(person, name, _test_path(settings, person, name)) for person in test for name in PHOTOS]
    _write_tables(folder, train, test_photos, settings)
    photos = photos + test_photos
    parts = [photos[start : start + _PHOTOS_A_JOB] for start in range(0, len(photos), _PHOTOS_A_JOB)]
    for _, result in run_all(partial(_write_photos, folder, settings), parts, min(settings.jobs, available_cores())):
        if isinstance(result, Exception):
            raise result
    return len(photos)


def _test_path(settings: FacesSettings, person: Person, name: str) -> str:
    """Return the path of a test photo, whose name reveals no label."""
    return f"eval/images/{hashlib.sha1(f'{settings.seed} {person.number} {name}'.encode()).hexdigest()}.jpg"


def _write_photos(folder: Path, settings: FacesSettings, photos: Sequence[Photo]) -> None:
    for photo in photos:
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        look, shot, rng = _draw_photo(settings, photo.person, photo.name)
        portrait(look, shot, rng).save(path, quality=shot.quality)


def _draw_photo(settings: FacesSettings, person: Person, name: str) -> "tuple[Look, Shot, np.random.Generator]":
    """Return a person's look, one shot of them, and the generator to draw it with."""
    import numpy as np

    look_rng = np.random.default_rng([settings.seed, 3, person.number])
    look = draw_look(look_rng, person.gender, person.age, person.telling)
    place = list(PHOTOS).index(name)
    rng = np.random.default_rng([settings.seed, 4, person.number, place])
    kind = place if place < len(MASKS) else int(rng.integers(len(MASKS)))
    return look, draw_shot(rng, person.shows[name], kind, name in person.doubtful), rng


def _write_tables(folder: Path, train: Sequence[Person], test_photos: Sequence[Photo], settings: FacesSettings) -> None:
    import numpy as np
    import pandas as pd

    order = np.random.default_rng([settings.seed, 5]).permutation(len(test_photos))
    shown = [test_photos[place] for place in order]
    names = [Path(photo.path).name for photo in shown]
    write_table(folder / INFO, pd.DataFrame({"ImageID": names, "ans": 0}))
    answers = [class_index(photo.person.shows[photo.name], photo.person.gender, photo.person.age) for photo in shown]
    groups = [photo.person.name for photo in shown]
    write_table(folder / TRUTH, pd.DataFrame({"ImageID": names, "group": groups, "ans": answers}))
    errors = [(f"images/{person.folder}/{name}.jpg", *error) for person in train for name, *error in person.errors]
    write_table(folder / PLANTED, pd.DataFrame(errors, columns=["image", "factor", "given", "true"]))
    rows = dict.fromkeys((person.name, *error) for person in train for _, *error in person.errors)
    write_table(folder / RELABEL, pd.DataFrame(list(rows), columns=["match", "factor", "from", "to"], dtype=str))
