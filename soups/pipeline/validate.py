"""What `validation.py` does: which classes and images of the validation set a model gets wrong."""

from soups import cli
from soups.data.samples import set_rows
from soups.pipeline.main import open_bench
from soups.pipeline.reading import find_model
from soups.pipeline.sets import evaluation_set
from soups.pipeline.settings import ValidationSettings
from soups.pipeline.votes import default_model
from soups.report.per_class import class_table, confusion, confusion_text, draw_confusion
from soups.report.wrong_images import draw_wrong_images


def validate(given: cli.Given[ValidationSettings]) -> None:
    """Print scores per class and the confusion matrix, and draw it and the wrong images.

    Raises:
        DataError: the validation images have no labels, or the model has other classes.
    """
    settings = given.settings
    bench = open_bench(settings, given.names)
    run = bench.run
    path = find_model(settings.model_name, run, settings.run) if settings.model_name else default_model(bench)
    outputs, labels, names = bench.probabilities(path, ["val"])["val"], bench.labels("val"), run.space.names
    matrix = confusion(labels, outputs.argmax(axis=1), len(names))
    right = int(matrix.trace())
    print(f"{path.stem}: {right} of {len(labels)} validation images right ({100 * right / len(labels):.1f}%)\n")
    print(class_table(matrix, names))
    print(f"\n{confusion_text(matrix, names)}")
    figures = run.folder / "figures"
    drawn = figures / f"{path.stem}_confusion.png", figures / f"{path.stem}_wrong.png"
    draw_confusion(matrix, names, drawn[0], title=f"{path.stem}: validation images")
    preprocessing = run.card_of(path).preprocessing
    images = evaluation_set("val", set_rows(run.samples, "val"), run, preprocessing, settings.cache).images
    title = f"{path.stem}: wrong validation images, the surest first"
    draw_wrong_images(images.__getitem__, outputs, labels, names, drawn[1], title=title, most=settings.images)
    print("\n" + "\n".join(map(str, drawn)))
