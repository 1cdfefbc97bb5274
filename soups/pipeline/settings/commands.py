"""What each command can be told; free of torch, so that `--help` is quick."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from soups.cli.flags import Flag
from soups.data.settings import CacheSettings, DataSettings
from soups.evaluation.settings import EvaluationSettings
from soups.models.settings import ModelSettings
from soups.runtime.devices import RuntimeSettings
from soups.runtime.launchers import LaunchSettings
from soups.training.settings import RandomRanges, TrainingSettings

TRAINING_ENVIRONMENT = {"SM_CHANNEL_TRAIN": "data_location", "SM_MODEL_DIR": "model_location"}
VALIDATION_ENVIRONMENT = {
    "SM_CHANNEL_MODEL": "model_location",
    "SM_OUTPUT_DATA_DIR": "predictions",
    "SM_GROUND_TRUTH_DIR": "ground_truth",
}
INFERENCE_ENVIRONMENT = {
    "SM_CHANNEL_EVAL": "test_location",
    "SM_CHANNEL_MODEL": "model_location",
    "SM_OUTPUT_DATA_DIR": "output_folder",
    "SM_GROUND_TRUTH_DIR": "ground_truth",
}


class FrozenSettings(BaseModel):
    """Checked when it is made, and not to be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(FrozenSettings):
    """Which run, and where its files are."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; by default the run last trained, or the data folder's name for the first one."""
    runs_folder: str = "runs"
    """Folder of all runs."""
    model_location: str | None = None
    """Folder of the checkpoints, instead of `runs/<name>/models`; `main.py` makes a run of checkpoints that were made
    elsewhere, given --data-location and --model."""


class CommandSettings(FrozenSettings):
    """What every command of a run can be told."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    cache: CacheSettings = CacheSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runtime: RuntimeSettings = RuntimeSettings()


class PoolSettings(CommandSettings):
    """What a command that works on many models can be told."""

    launch: LaunchSettings = LaunchSettings()


class FinetuneSettings(PoolSettings):
    """Fine-tune one model or several from one start.

    Images in folders named after their classes are all it needs: --data-location DIR. What is finished is not
    repeated; settings of the data, the split and the model belong to the run and are recorded with the first model.
    """

    i: str | None = None
    """Which fine-tunes: `3`, `0-11` or `0,4,7`; by default the one that has these settings, else the next free one."""
    overwrite: Flag = False
    """Train again what is there with other settings."""
    new: Flag = False
    """Start a new run; where the name is taken, with a serial: `digits`, `digits-2`, `digits-3`, …"""
    near_duplicates: Literal["auto", "on", "off"] = "auto"
    """Before a run begins, look for pictures in two sets that are nearly the same as well as for equal files; `auto` up
    to 20,000 images."""
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    save_minutes: float = Field(default=10, ge=0)
    """Minutes between two savings of the state that training goes on from when it was cut off; it is saved at the ends
    of epochs as well, as far as that takes no more than 3% of the time. 0: only there."""
    deterministic: Flag = False
    """On an accelerator, only algorithms of PyTorch that give the same bits each time: slower, and an error where there
    is none. On the processor it changes nothing."""
    wandb: str = Field(default="disabled", pattern="^(disabled|offline|online)$")
    """Log to Weights & Biases as well: disabled, offline or online; never asks anything."""


class MainSettings(PoolSettings):
    """Evaluate the models of a run, make soups of them, compare and plot: any combination, in this order."""

    RARE: ClassVar = (
        *("download_models", "download_url", "results", "val_set", "test_set", "strict", "significance", "batchnorm"),
        *("budget_evaluations", "budget_minutes", "class_names", "ema", "scores"),
    )

    download_models: Flag = False
    """Fetch the 72 public start models of the model-soups paper into --model-location."""
    download_url: str = "https://github.com/mlfoundations/model-soups/releases/download/v0.0.2"
    """Where from."""
    eval_individual_models: Flag = False
    """Score every model on validation, test and shift sets."""
    uniform_soup: Flag = False
    """Average all fine-tunes."""
    greedy_soup: Flag = False
    """Average those that help on validation, in order of their scores."""
    soup: tuple[str, ...] | None = None
    """More recipes by name; --list-recipes tells them."""
    soup_options: tuple[str, ...] | None = None
    """What the recipes asked for are told: NAME=VALUE, for each that has an option of this name."""
    soup_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the soup's file among the run's models, without its ending; by default `<run>_<recipe>_soup`."""
    ingredients: tuple[str, ...] | None = None
    """Make soups of these models alone, named by path or name (`digits3` for `digits3_epochs22`)."""
    start: str | None = None
    """File of the models' common start, for recipes that go from there; by default the one that their cards name."""
    list_recipes: Flag = False
    """Print every recipe with its options."""
    rebuild: tuple[str, ...] | None = None
    """Make these soups again, by path or name, from their cards and their ingredients' files: the same bytes."""
    scores: Flag = True
    """Score each finished soup on every set; False: a uniform soup is then made without opening an image."""
    class_names: tuple[str, ...] | None = None
    """Of checkpoints that were made elsewhere: their classes in the order of the logits (default: the data's)."""
    ema: Flag = False
    """Of checkpoints that were made elsewhere: take the averaged weights (EMA) that training scripts keep beside."""
    accept: Literal["equal", "better", "significant"] = "equal"
    """Greedy takes an ingredient if the score does not fall (the paper's Algorithm 1), only if it rises (its code), or
    only if it gains more images than chance would (one-sided McNemar test)."""
    significance: float = Field(default=0.05, gt=0, lt=1)
    """The chance of a gain by luck that `--accept significant` allows."""
    strict: Flag = False
    """The same as --accept better."""
    batchnorm: Literal["recompute", "average"] | None = None
    """Running statistics of BatchNorm in soups: computed anew on training images, or averaged like weights; by default
    what is better on validation. Other networks have none."""
    budget_evaluations: int | None = Field(default=None, ge=0)
    """Judge at most so many candidate soups: the best soup found by then, and the card says what was left untried."""
    budget_minutes: float | None = Field(default=None, ge=0)
    """Judge candidate soups for at most so long."""
    at_once: int = Field(default=1, gt=0)
    """Greedy judges so many candidates side by side, each in a process (on an accelerator) of its own; same soup."""
    inspect: Flag = False
    """Say whether the models can be souped, and which do not belong and why."""
    report: Flag = False
    """Print the table: best single model, soups and votes, with intervals."""
    plot: Flag = False
    """Draw the paper's figure: mean accuracy over shifts against accuracy on the test set; and the pool's
    learning curves."""
    learning_curves: Flag = False
    """Draw loss, validation and learning rate of each fine-tune over its epochs, and the whole pool in one figure."""
    results: str | None = None
    """A folder with result files of the original model-soups code to plot instead of the run's."""
    val_set: str = "val"
    """Name of the validation set in the result files (the original's: ImageNet2p)."""
    test_set: str = "test"
    """Name of the test set in the result files (the original's: ImageNet)."""


class InferenceSettings(PoolSettings):
    """Predict the classes of the test images and write them as CSV or Parquet.

    Without a model or a way of voting, the greedy soup predicts, or the best model by validation where there is none.
    """

    model_name: tuple[str, ...] | None = None
    """The model, or several to vote: a path, a file name, or a name without ending."""
    soft_voting: tuple[str, ...] | None = None
    """Mean of the probabilities of these models; of all fine-tunes of the run where none is named."""
    normalise: Literal["probability", "minmax"] = "probability"
    """What soft voting averages: probabilities, or each image's logits scaled to [0, 1]."""
    weighted_ensemble: tuple[str, ...] | None = None
    """Weighted mean of the probabilities: `M=0.6 N=0.4`, or weights fitted on the validation set. Models of some
    factors are joined with the others as likelihoods: a class's score is the product of their powers."""
    formula: Literal["exponents", "original"] = "exponents"
    """How models of some factors are joined: by exponents in [0, 2] fitted on validation, or as the original did: logit
    × (1 + probability of the factor model)."""
    split: Flag = False
    """Hard voting on each factor by itself; the winners together are the class."""
    hard_voting: tuple[str, ...] | None = None
    """Majority of these models, or of these prediction CSVs."""
    vote: tuple[str, ...] | None = None
    """A voting rule by name, then its models: `--vote soft M N`. The other voting flags select built-in rules; this one
    also selects rules of plugins."""
    each: Flag = False
    """Write a CSV for each model named, or for each fine-tune of the run: what hard voting over tables takes."""
    output: str | None = None
    """The table to write, `.csv` or `.parquet`; by default `output/<what>.csv` in the run."""
    shard_size: int = Field(default=10_000, gt=0)
    """Images that a model is given at a time (rounded up to whole batches): pieces of work that are done side by side
    and kept, so that the same command goes on where it was cut off. The predictions do not depend on it."""
    output_folder: str | None = None
    """Folder of the CSV, where --output gives none."""
    probabilities: Flag = False
    """A column for the probability of each class as well."""
    sample_submission: str | None = None
    """A CSV whose columns and order the predictions take; found by itself as sample_submission.csv or info.csv."""
    ground_truth: str | None = None
    """A CSV of true labels (or its folder): prints how many predictions are right."""


class OneModelSettings(CommandSettings):
    """What commands about one model can be told."""

    model_name: str | None = None
    """The model; by default the greedy soup, or the best model by validation where there is none."""


class ValidationSettings(OneModelSettings):
    """Show which classes and images are predicted wrong: on stdout as tables, in the run's figures as pictures.

    A model is validated on the validation images of its own run, whatever seed is given; tables of predictions against
    a table of the truth.
    """

    predictions: tuple[str, ...] | None = None
    """Instead of a model: a CSV of predictions (or a folder with one), to be held against --ground-truth; or several,
    which are compared with the first. `NAME=A.csv,B.csv` is one row, the mean of tables that differ by chance alone."""
    ground_truth: str | None = None
    """With --predictions: a CSV of the true classes, or a folder with one; its column `group` tells who belongs
    together."""
    images: int = Field(default=24, gt=0)
    """How many wrong images the grid shows at the most."""
    explain: tuple[str, ...] | None = None
    """Below each wrong image, maps of what speaks for the prediction and for the truth: bare, or a method such as
    gradcam; see scripts/explain.py."""
    random_seed: int | None = None
    """Taken, as the original's command has it, and without effect: the split is the run's."""
