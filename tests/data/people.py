"""Empty files in the layout `profile`, for tests of several rooms."""

from collections.abc import Sequence
from pathlib import Path

PHOTOS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
PEOPLE = ("000001_female_Asian_45", "000002_male_Asian_29", "000003_male_Black_60", "000004_female_White_30")


def make_people(images: Path, people: Sequence[str] = PEOPLE, photos: Sequence[str] = PHOTOS) -> Path:
    """Seven empty files for each person."""
    for person in people:
        (images / person).mkdir(parents=True)
        for photo in photos:
            (images / person / f"{photo}.jpg").touch()
    return images
