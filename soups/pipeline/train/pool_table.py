"""The table of a run's fine-tunes after training: printed, and written to `output/pool.csv`."""

from collections import Counter
from typing import TYPE_CHECKING

from soups.data.samples import set_rows
from soups.files.atomic import write_table
from soups.pipeline.run.run import Run
from soups.report.pool import format_pool, pool_row

if TYPE_CHECKING:
    import pandas as pd


def show_pool(run: Run) -> None:
    """Print the table of all fine-tunes of a run, which of them are at chance level, and the next command."""
    import pandas as pd

    finetunes, metric = run.finetunes(), run.recorded.metric
    if not finetunes:
        return
    scores = {path.stem: (card.scores or {}).get("val", {}) for path, card in finetunes.items()}
    rows = [pool_row(path.stem, card.training, scores[path.stem], metric) for path, card in finetunes.items()]
    file = run.folder / "output" / "pool.csv"
    write_table(file, pd.DataFrame(rows))
    print(format_pool(rows, metric))
    label, share = majority(run.samples)
    weak = [name for name, values in scores.items() if values.get("accuracy", 1.0) <= share]
    if weak:
        names = ", ".join(weak[:5]) + (f" and {len(weak) - 5} more" if len(weak) > 5 else "")
        print(f"not better than always answering {label!r} ({100 * share:.1f}% of the validation images): {names}")
    print(f"also in {file}")
    print(f"next: {next_command(run.name, len(rows))}")


def majority(samples: "pd.DataFrame") -> tuple[str, float]:
    """Returns the most frequent class of the validation images, and its share of them."""
    labels = set_rows(samples, "val")["label"]
    ((label, count),) = Counter(labels.tolist()).most_common(1)
    return label, count / len(labels)


def next_command(name: str, models: int) -> str:
    """Returns the command that a pool of so many models is for."""
    if models < 2:  # A soup needs more.
        return f"python finetune.py --name {name} --i 1-11 --hparams random"
    return f"python main.py --name {name} --eval-individual-models --greedy-soup --report"
