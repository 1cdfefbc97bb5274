"""Settings classes of show-batch, explain, disagreement, find-label-errors, curate and study. Torch-free."""

from typing import Annotated, ClassVar

import tyro
from pydantic import Field

from soups.cli.flags import Flag
from soups.data.settings import CacheSettings
from soups.evaluation.settings import EvaluationSettings
from soups.explain.settings import MapSettings
from soups.models.settings import ModelSettings
from soups.pipeline.settings.commands import (
    CommandSettings,
    FrozenSettings,
    OneModelSettings,
    PoolSettings,
    RunSettings,
)
from soups.runtime.devices import RuntimeSettings
from soups.training.settings import RandomRanges, TrainingSettings


class ShowBatchSettings(CommandSettings):
    """Draw the first training images as the model will see them, with their labels. Trains nothing.

    Takes the flags of finetune.py. An existing run is used; no run is made.
    """

    i: int = Field(default=0, ge=0)
    """Index of the fine-tune, whose seed decides order and augmentation."""
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    images: int = Field(default=32, gt=0)
    """Number of images."""
    output: str | None = None
    """PNG to write. By default `figures/batch.png` in the run, or `batch.png` here where no run exists."""


class ExplainSettings(OneModelSettings):
    """Draw class activation maps of images, and measure how faithful they are.

    The images are those named, or the most confident right, the most confident wrong and the most uncertain ones of a
    set.
    """

    maps: MapSettings = MapSettings()
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Images, or folders of images. By default some of the set --on."""
    class_name: Annotated[str | None, tyro.conf.arg(aliases=["--class"])] = None
    """Explain this class. By default the predicted class, and the true class where it differs."""
    on: str = "val"
    """Set of images where none are named: `val`, `test` or the name of a shift."""
    count: int = Field(default=4, gt=0)
    """Number of images of each kind: most confident right, most confident wrong, most uncertain."""
    ingredients: int = Field(default=4, ge=0)
    """For a soup: largest number of ingredients whose maps are drawn beside its own."""
    output: str | None = None
    """Folder to write into. By default `output/explain/<model>_<method>` in the run."""


class DisagreementSettings(CommandSettings):
    """List the images on which models or prediction tables disagree most, as a CSV and a page.

    Disagreement is the entropy of the votes, on the class and on each factor of the label.
    """

    members: tuple[str, ...] | None = None
    """Models by name or path, or CSVs of predictions. By default all fine-tunes of the run."""
    on: str = "val"
    """Set of images for models: `val`, `test` or the name of a shift."""
    images: int = Field(default=60, gt=0)
    """Largest number of images in each part of the page."""
    output: str | None = None
    """CSV to write; the page is written beside it. By default `output/disagreement.csv` in the run."""


class LabelErrorsSettings(CommandSettings):
    """List labels that are probably wrong, as a corrections file for --relabel and a page.

    A linear head on the features of the run's start is trained on most groups and predicts the others
    (cross-validation). Labels that it contradicts are listed, the most doubtful first. Takes the flags of the data and
    the model. An existing run is used; no run is made.
    """

    RARE: ClassVar = ("folds", "fold_seed", "planted")

    model_name: str | None = None
    """Read the features from this model instead of the start."""
    from_pool: Flag = False
    """Use the predictions of the run's fine-tunes instead of a head, on their validation images only."""
    factors: tuple[str, ...] | None = None
    """Check these factors of the label only. By default all factors."""
    folds: int = Field(default=5, gt=1)
    """Number of cross-validation folds; groups stay together."""
    fold_seed: int = Field(default=0, ge=0)
    """Seed that assigns groups to folds."""
    least_doubt: float = Field(default=0.5, ge=0, le=1)
    """Leave out proposals with a lower doubt. 0.5 keeps every label that is not the most probable one."""
    planted: str | None = None
    """CSV of known wrong labels, with the columns image, factor, given and true: prints how many of them are found."""
    images: int = Field(default=200, gt=0)
    """Largest number of proposals of each factor, in the table and on the page."""
    output: str | None = None
    """CSV to write; the page is written beside it. By default `output/corrections.csv` in the run, or `corrections.csv`
    here where no run exists."""


class CurateSettings(FrozenSettings):
    """Pick the images of a large pool that are most similar to a target set, as a table for finetune.py and a page.

    Similarity is the cosine of the model's features to the nearest target image. Near duplicates of an image already
    picked, of the target, of --leave-out, and of validation, test and shift images of the run --name are left out.
    """

    run: RunSettings = RunSettings()
    cache: CacheSettings = CacheSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    pool: str | None = None
    """Folder to pick from. Its sub-folders, if any, name the classes."""
    target: str | None = None
    """Folder of the target images."""
    count: int | None = Field(default=None, gt=0)
    """Number of images to pick."""
    leave_out: tuple[str, ...] = ()
    """More folders, such as validation and test images, of which no near duplicate is picked."""
    skip_bad_images: Flag = False
    """Leave out images of the pool that cannot be read."""
    duplicate_similarity: float = Field(default=0.98, gt=0, le=1)
    """Cosine similarity from which two images count as near duplicates."""
    label: str | None = None
    """Class of all images of the pool, where its folders do not name it."""
    images: int = Field(default=60, gt=0)
    """Largest number of picked images on the page."""
    output: str = "curated.csv"
    """CSV to write; the page is written beside it."""


class StudySettings(PoolSettings):
    """Repeat the experiment of a run over other splits of its data and pool the gain of each soup and vote.

    Each split is a run of its own, `<name>-s<split seed>`, whose fine-tunes have the hyperparameters of the run's
    fine-tunes and other seeds; finished models are not trained again. The table goes to stdout and to
    `runs/<name>-study/`.
    """

    split_seeds: str = "0-4"
    """Split seeds: `0-4`, or `0,3,7`. The run's own seed stands for the run itself."""
    random_seeds: str | None = None
    """Root seeds of training, one for each split. By default the run's seed plus the split seed."""
    soup: tuple[str, ...] | None = None
    """Recipes. By default those of the soups that the run has; uniform and greedy where it has none."""
