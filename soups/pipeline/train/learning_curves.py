"""Draws the learning curves of a run from the logs of its fine-tunes."""

import logging
from pathlib import Path

from soups.checkpoints.card import Card
from soups.core.progress import track
from soups.files.atomic import fingerprint
from soups.files.jsonl import read_records
from soups.pipeline.run.run import Run
from soups.pipeline.train.plan import requested_settings
from soups.report.figures.learning_curves import TrainingCurve, curve_from_log, draw_pool_curves, draw_training_curve

logger = logging.getLogger(__name__)


def draw_learning_curves(run: Run, metric: str, *, each: bool) -> bool:
    """Draw the pool's curves, and each fine-tune's, into the run's figures; prints the paths.

    Args:
        run: the run of the fine-tunes.
        metric: metric that decides the pool's best model.
        each: draw each fine-tune as well, by the run's own metric, unless its figure is up to date.

    Returns:
        Whether any fine-tune has a log to draw.
    """
    cards = {path: card for path, card in run.finetunes().items() if "index" in card.training}
    courses = {path: course for path, card in cards.items() if (course := _read_course(run, card)) is not None}
    if not courses:
        return False
    folder, pool = run.folder / "figures" / "learning_curves", run.folder / "figures" / "learning_curves.png"
    if each:
        for path, course in track(courses.items(), "learning curves", len(courses)):
            picture = folder / f"{course.name}.png"
            if not _is_up_to_date(picture, path, run.training_log(cards[path].training["index"])):
                draw_training_curve(course, picture, metric=run.recorded.metric)
        print(folder)
    count = "1 fine-tune" if len(courses) == 1 else f"{len(courses)} fine-tunes"
    draw_pool_curves(list(courses.values()), pool, metric=metric, title=f"{run.name}: {count}")
    print(pool)
    return True


def _is_up_to_date(picture: Path, *sources: Path) -> bool:
    return picture.exists() and picture.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in sources)


def _read_course(run: Run, card: Card) -> TrainingCurve | None:
    """Returns the course of a fine-tune; None, with a warning, if it is not logged."""
    name, training = run.model_name(card.training["index"]), requested_settings(card)
    settings = fingerprint(training)
    lines = read_records(run.training_log(card.training["index"]))
    watched = training.get("metric") if training.get("patience") else None
    own = [line for line in lines if line.get("settings") == settings]
    course = curve_from_log(own, name, watched=watched, loss_name=training.get("loss_fn", "CrossEntropyLoss"))
    if course is None:
        logger.warning("%s: no log of this training; its curve is left out", name)
    return course
