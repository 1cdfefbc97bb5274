"""One table of labels, written in 500 ways by hypothesis: each image has its class, or the table is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from soups.data.layouts.tables import csv_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import touch
from tests.reports.test_table_forms import CLASSES, FORMS, IMAGES, Form, run_forms, write

_KINDS = ("names", "indices", "floats", "names and probabilities")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return touch(tmp_path_factory.mktemp("labels"), *IMAGES)


def test_a_table_of_labels_in_any_form_gives_each_image_its_class(folder: Path) -> None:
    settings = DataSettings(data_location=str(folder), labels="labels.csv")

    def check(drawn: tuple[Form, str]) -> None:
        form, label_name = drawn
        classes = np.random.default_rng(form.seed).integers(0, 3, len(IMAGES))
        write(folder / "labels.csv", replace(form, label_name=label_name), classes)
        samples = csv_samples(settings)
        found = dict(zip(samples["image"], samples["label"], strict=True))
        names = CLASSES if form.answers in ("names", "names and probabilities") else ("0", "1", "2")
        assert found == {image: names[index] for image, index in zip(IMAGES, classes, strict=True)}

    names = st.sampled_from(["label", "label", "class", "Target", "category", "species"])
    run_forms(check, st.tuples(FORMS.filter(lambda form: form.answers in _KINDS), names), "tables of labels")
