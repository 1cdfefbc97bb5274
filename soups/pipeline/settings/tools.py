"""What the scripts that look, propose and repeat can be told; free of torch, so that `--help` is quick."""

from typing import Annotated

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
    """Draw the first training images of a fine-tune as the model will see them, with their labels; trains nothing.

    Takes the flags of finetune.py; a run that is there is used, and none is made.
    """

    i: int = Field(default=0, ge=0)
    """Which fine-tune: its seed decides order and augmentation."""
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    images: int = Field(default=32, gt=0)
    """How many images are drawn."""
    output: str | None = None
    """The PNG to write; by default `figures/batch.png` in the run, or `batch.png` here where there is no run yet."""


class ExplainSettings(OneModelSettings):
    """Show what a model looks at: maps of the evidence for a class, over the images that are named, or over the surest
    right, the surest wrong and the most uncertain ones of a set; and how faithful the maps are.
    """

    maps: MapSettings = MapSettings()
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Images, or folders of them; by default some of the set --on."""
    class_name: Annotated[str | None, tyro.conf.arg(aliases=["--class"])] = None
    """Explain this class; by default the predicted one and, where it is another, the true one."""
    on: str = "val"
    """The set of images where none are named: `val`, `test` or a shift's name."""
    count: int = Field(default=4, gt=0)
    """How many surest right, surest wrong and most uncertain images."""
    ingredients: int = Field(default=4, ge=0)
    """Of a soup: the maps of so many of its ingredients beside its own, at the most."""
    output: str | None = None
    """The folder to write into; by default `output/explain/<model>_<method>` in the run."""


class DisagreementSettings(CommandSettings):
    """List the images on which models disagree, or tables of predictions, the most divided first: as CSV and as a page.

    Divided is the entropy of the votes: on the class, and on each factor where classes are made of several.
    """

    members: tuple[str, ...] | None = None
    """Models by name or path, or CSVs of predictions; by default all fine-tunes of the run."""
    on: str = "val"
    """The set of images, of models: `val`, `test` or a shift's name."""
    images: int = Field(default=60, gt=0)
    """How many images each part of the page shows at the most."""
    output: str | None = None
    """The CSV to write, and beside it the page; by default `output/disagreement.csv` in the run."""


class LabelErrorsSettings(CommandSettings):
    """Propose corrections of labels that are probably wrong: a file for --relabel, and a page to look at.

    A linear head on the features of the run's start is trained on most groups and asked about the others; labels that
    it contradicts are listed, the most doubtful first. Takes the data's and the model's flags; a run that is there is
    used, and none is made.
    """

    model_name: str | None = None
    """Take the features of this model instead of the start."""
    from_pool: Flag = False
    """Ask the run's fine-tunes instead of a head; of their validation images alone."""
    factors: tuple[str, ...] | None = None
    """Look at these factors alone; by default at all that the labels are made of."""
    folds: int = Field(default=5, gt=1)
    """Parts that the groups are dealt out to: each is asked of a head that was trained on the others."""
    fold_seed: int = Field(default=0, ge=0)
    """Decides how groups are dealt out."""
    least_doubt: float = Field(default=0.5, ge=0, le=1)
    """Leave proposals out that are less doubtful: 0.5 keeps every label that is not the most probable level."""
    planted: str | None = None
    """To practise on data whose wrong labels are known: a CSV of them with the columns image, factor, given and true;
    tells how many of them the proposals begin with."""
    images: int = Field(default=60, gt=0)
    """How many proposals of each factor the page shows at the most."""
    output: str | None = None
    """The CSV to write, and beside it the page; by default `output/corrections.csv` in the run, or `corrections.csv`
    here where there is no run yet."""


class CurateSettings(FrozenSettings):
    """Pick the images of a large pool that are most like a target set: a table that finetune.py reads, and a page.

    Similarity is the cosine of the model's features to the nearest target image. Images that are nearly the same as one
    picked before, as one of the target, as one of --leave-out, or as a validation, test or shift image of the run that
    --name names are left out.
    """

    run: RunSettings = RunSettings()
    cache: CacheSettings = CacheSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    pool: str | None = None
    """Folder to pick from; where its images lie in folders, those name their classes."""
    target: str | None = None
    """Folder of images that the picked ones should be like."""
    count: int | None = Field(default=None, gt=0)
    """How many images to pick."""
    leave_out: tuple[str, ...] = ()
    """More folders, such as validation and test images, of which no near duplicate is picked."""
    skip_bad_images: Flag = False
    """Pick without the images of the pool that cannot be read."""
    duplicate_similarity: float = Field(default=0.98, gt=0, le=1)
    """From which similarity two images count as the same."""
    label: str | None = None
    """Class of all images of the pool, where its folders do not name it."""
    images: int = Field(default=60, gt=0)
    """How many picked images the page shows at the most."""
    output: str = "curated.csv"
    """The CSV to write, and beside it the page."""


class StudySettings(PoolSettings):
    """Repeat a run's whole experiment over other splits of its data, and pool what each soup and vote gained.

    Every split is a run of its own, `<name>-s<split seed>`, whose fine-tunes have the hyperparameters that the run's
    own fine-tunes have, with other seeds; what is finished is not repeated. The table goes to stdout and to
    `runs/<name>-study/`.
    """

    split_seeds: str = "0-4"
    """Which splits: `0-4`, or `0,3,7`; the run's own seed stands for the run itself."""
    random_seeds: str | None = None
    """Root seeds of training, one for each split; by default the run's own plus the split seed."""
    soup: tuple[str, ...] | None = None
    """The recipes; by default those of the soups that the run has, or uniform and greedy where it has none."""
