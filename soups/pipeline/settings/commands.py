"""Settings classes of finetune, main, inference and validation. Torch-free, so that `--help` is quick."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from soups.cli.flags import Flag
from soups.data.settings import CacheSettings, DataSettings
from soups.evaluation.settings import EvaluationSettings
from soups.files.config_files import VERSIONS
from soups.models.settings import DEFAULT_DOWNLOAD_URL, ModelSettings
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
    """Base class: validated at construction, immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(FrozenSettings):
    """The run and the folders of its files."""

    RARE: ClassVar = ("model_location",)

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run. By default the run that was trained last; for the first run, the name of the data folder."""
    runs_folder: str = "runs"
    """Folder that holds all runs."""
    model_location: str | None = None
    """Folder of the checkpoints instead of `runs/<name>/models`. With --data-location and --model, `main.py` makes a
    run of checkpoints from other tools in this folder."""


class CommandSettings(FrozenSettings):
    """Settings that every command of a run has."""

    FACTS: ClassVar[dict[str, str]] = dict.fromkeys(
        (VERSIONS, "factors", "index_prefix", "foreign_location", "ema", "architecture", "preprocessing"), ""
    )
    """Keys of a run's settings file that are no settings, with the setting that they give to the command, if any."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    cache: CacheSettings = CacheSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runtime: RuntimeSettings = RuntimeSettings()


class PoolSettings(CommandSettings):
    """Settings of commands that work on many models."""

    launch: LaunchSettings = LaunchSettings()


class FinetuneSettings(PoolSettings):
    """Fine-tune one model or several from one start.

    Images in folders named after their classes are enough: --data-location DIR. Finished models are not trained again.
    Settings of the data, the split and the model belong to the run and are recorded with its first model. --config
    runs/NAME/settings.yaml trains the models of a run again, runs/NAME/settings.yaml#MODEL one of them.
    """

    RARE: ClassVar = ("near_duplicates", "save_minutes", "deterministic")
    REPEATS_MODELS: ClassVar = True
    """With the settings file of a run as `--config`, its models are trained again."""

    i: str | None = None
    """Indices of the fine-tunes: `3`, `0-11` or `0,4,7`. By default the index that has these settings, else the next
    free one."""
    overwrite: Flag = False
    """Train again where a model with the same index has other settings."""
    new: Flag = False
    """Start a new run. If the name is taken, a number is added: `digits`, `digits-2`, `digits-3`, …"""
    dry_run: tuple[Literal["one-batch"], ...] | None = None
    """Print what would be trained and with which data, and end. With `one-batch`, also train and validate one batch of
    the first model. Leaves no run behind."""
    near_duplicates: Literal["auto", "on", "off"] = "auto"
    """Look for nearly equal images in two sets before a run starts, besides equal files. `auto`: up to 20,000 images.
    """
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    save_minutes: float = Field(default=10, ge=0)
    """Minutes between two saves of the training state, from which an interrupted fine-tune resumes. The state is also
    saved at the end of an epoch, as long as saving takes at most 3% of the time. 0: only at the end of an epoch."""
    deterministic: Flag = False
    """Use only deterministic algorithms of PyTorch on an accelerator: slower, and an error where an operation has none.
    No effect on the CPU."""
    wandb: str = Field(default="disabled", pattern="^(disabled|offline|online)$")
    """Also log to Weights & Biases: disabled, offline or online. Never prompts."""


class MainSettings(PoolSettings):
    """Evaluate the models of a run, make soups, compare and plot: any combination, in this order."""

    FACTS: ClassVar = CommandSettings.FACTS | {"foreign_location": "model_location", "ema": "ema"}
    RARE: ClassVar = (
        *("download_models", "download_url", "results", "val_set", "test_set", "strict", "significance", "batchnorm"),
        *("budget_evaluations", "budget_minutes", "class_names", "ema", "scores"),
    )

    download_models: Flag = False
    """Download the 72 public models of the model-soups paper into --model-location."""
    download_url: str = DEFAULT_DOWNLOAD_URL
    """Address that --download-models reads from."""
    eval_individual_models: Flag = False
    """Score every model on the validation, test and shift sets."""
    uniform_soup: Flag = False
    """Make the uniform soup: the mean of all fine-tunes."""
    greedy_soup: Flag = False
    """Make the greedy soup: add models in order of validation score, keep each that does not lower it."""
    soup: tuple[str, ...] | None = None
    """Make soups with these recipes; --list-recipes lists them."""
    soup_options: tuple[str, ...] | None = None
    """Options of the recipes, as NAME=VALUE. Each goes to every requested recipe that has an option of this name."""
    soup_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """File name of the soup in the run's models, without its ending. By default `<run>_<recipe>_soup`."""
    ingredients: tuple[str, ...] | None = None
    """Make soups of these models only, by path or name (`digits3` for `digits3_epochs22`)."""
    start: str | None = None
    """File of the common start, for recipes that interpolate with it. By default the start that the models' cards name.
    """
    list_recipes: Flag = False
    """Print every recipe with its options and exit."""
    rebuild: tuple[str, ...] | None = None
    """Make these soups again, by path or name, from their cards and the files of their ingredients: the same bytes."""
    scores: Flag = True
    """Score each finished soup on every set. With False, a uniform soup is made without reading an image."""
    class_names: tuple[str, ...] | None = None
    """For checkpoints from other tools: their classes in the order of the logits. By default the classes of the data.
    """
    ema: Flag = False
    """For checkpoints from other tools: read the exponential moving average of the weights (EMA) where a file has one.
    """
    accept: Literal["ties-by-log-loss", "equal", "better", "significant"] = "ties-by-log-loss"
    """When greedy accepts a model: `equal`, the score does not fall (Algorithm 1 of the paper); `ties-by-log-loss`, nor
    does the log-loss rise at an equal score; `better`, the score rises (the original code); `significant`, it rises by
    more images than chance explains (one-sided McNemar test). A greedy soup of the same models is kept as it was made.
    """
    significance: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of `--accept significant`."""
    strict: Flag = False
    """The same as --accept better."""
    batchnorm: Literal["recompute", "average"] | None = None
    """BatchNorm statistics of soups: recompute them on training images, or average them like weights. By default
    whichever scores better on validation. No effect on networks without BatchNorm."""
    budget_evaluations: int | None = Field(default=None, ge=0)
    """Judge at most this many candidate soups. The best one so far is written, and its card records what was not tried.
    """
    budget_minutes: float | None = Field(default=None, ge=0)
    """Judge candidate soups for at most this many minutes."""
    at_once: int = Field(default=1, gt=0)
    """Number of candidates that greedy judges in parallel, each in its own process (on its own accelerator). Does not
    change the soup."""
    inspect: Flag = False
    """Report whether the models can be averaged, and which ones do not belong to the pool and why."""
    choose: Flag = False
    """Choose what predicts by default, and record it: the best single model, or a soup (greedy, greedy_log_loss,
    uniform, and learned if the run has it) by the cross-fitted log-loss, or by --metric where it is given. Makes the
    soups that are missing."""
    allow_votes: Flag = False
    """With --choose: the soft vote and the ensemble selection, which cost many models, may be chosen, too."""
    report: Flag = False
    """Print the comparison table: best single model, soups and votes, with intervals. Ends with the recorded choice;
    without one, chooses among the soups that the run has."""
    plot: Flag = False
    """Draw the mean accuracy over shifts against the test accuracy, and the learning curves of the pool."""
    learning_curves: Flag = False
    """Draw loss, validation score and learning rate over the epochs of each fine-tune, and of the pool in one figure.
    """
    results: str | None = None
    """Folder with result files of the original model-soups code; --plot draws them instead of the run's."""
    val_set: str = "val"
    """Name of the validation set in those files (in the original's: ImageNet2p)."""
    test_set: str = "test"
    """Name of the test set in those files (in the original's: ImageNet)."""


class InferenceSettings(PoolSettings):
    """Predict the classes of the test images and write them as CSV or Parquet.

    Without a model or a voting flag, what `main.py --choose` recorded predicts; without a choice, the greedy soup;
    without a greedy soup, the best model by validation.
    """

    RARE: ClassVar = ("shard_size", "formula", "normalise", "output_folder")

    model_name: tuple[str, ...] | None = None
    """Model, or several models for a vote: a path, a file name, or a name (`digits3` for `digits3_epochs22`)."""
    soft_voting: tuple[str, ...] | None = None
    """Average the probabilities of these models. By default all fine-tunes of the run."""
    normalise: Literal["probability", "minmax"] = "probability"
    """What --soft-voting averages: probabilities, or the logits of each image scaled to [0, 1]."""
    weighted_ensemble: tuple[str, ...] | None = None
    """Weighted mean of the probabilities: `M=0.6 N=0.4`, or weights fitted on the validation set. Models of some
    factors of the label are joined with the others as likelihoods: the score of a class is the product of powers."""
    formula: Literal["exponents", "original"] = "exponents"
    """How models of some factors are joined: with exponents in [0, 2] fitted on validation, or by the original formula:
    logit × (1 + probability of the factor model)."""
    split: Flag = False
    """With --hard-voting: vote on each factor of the label by itself and combine the winners."""
    hard_voting: tuple[str, ...] | None = None
    """Majority vote of these models, or of these prediction CSVs. By default all fine-tunes of the run."""
    vote: tuple[str, ...] | None = None
    """Voting rule by name, then its models: `--vote soft M N`. The other voting flags select built-in rules; this one
    also selects rules of plugins."""
    each: Flag = False
    """Write one CSV for each named model, or for each fine-tune of the run, as input of --hard-voting."""
    output: str | None = None
    """File to write, `.csv` or `.parquet`. By default `output/<model or vote>.csv` in the run."""
    shard_size: int = Field(default=10_000, gt=0)
    """Images in a shard, rounded up to whole batches. Shards are computed in parallel and cached, so that an
    interrupted command resumes. Does not change the predictions."""
    output_folder: str | None = None
    """Folder of the CSV where --output gives none."""
    probabilities: Flag = False
    """Add a column with the probability of each class."""
    sample_submission: str | None = None
    """CSV whose columns and order the predictions take. By default sample_submission.csv or info.csv beside the images,
    if it lists any of them; `none` fills no template."""
    ground_truth: str | None = None
    """CSV of true labels, or its folder: prints how many predictions are right."""


class OneModelSettings(CommandSettings):
    """Settings of commands about one model."""

    model_name: str | None = None
    """Model: a path, a file name, or a name (`digits3` for `digits3_epochs22`). By default the choice of
    `main.py --choose`; without one the greedy soup, else the best model by validation."""


class ValidationSettings(OneModelSettings):
    """Show which classes and images are predicted wrong: tables on stdout, figures in the run.

    A model is validated on the validation images of its own run, whatever seed is given. Tables of predictions are
    compared with a table of true labels.
    """

    RARE: ClassVar = ("random_seed",)

    predictions: tuple[str, ...] | None = None
    """CSV of predictions, or a folder with one, instead of a model; needs --ground-truth. Of several, each is compared
    with the first. `NAME=A.csv,B.csv` is one row: the mean of tables that differ only by seed."""
    ground_truth: str | None = None
    """With --predictions: CSV of true labels, or a folder with one. Its column `group` names images that belong
    together."""
    images: int = Field(default=24, gt=0)
    """Largest number of wrong images in the grid."""
    explain: tuple[str, ...] | None = None
    """Draw maps for the predicted and the true class below each wrong image: without a value, or with a method such as
    gradcam; see scripts/explain.py."""
    random_seed: int | None = None
    """Accepted for compatibility with the original command; no effect, because the split belongs to the run."""
