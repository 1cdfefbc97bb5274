"""What `finetune` shows without any setting: the run last trained, and the commands that go on with it."""

from soups.core.errors import UsageError
from soups.core.metrics import METRICS
from soups.data.layouts.locate import resolve_locations
from soups.data.settings import DataSettings
from soups.pipeline.run.run import Run, existing_run, latest_run
from soups.pipeline.settings.commands import RunSettings


def show_last_run(settings: RunSettings) -> None:
    """Print the run last trained and the commands that add a model; trains nothing.

    Raises:
        UsageError: there is no run; says what is needed.
    """
    run = existing_run(settings, latest_run(settings))
    if run is None:
        data = resolve_locations(DataSettings())
        raise UsageError(
            f"nothing is trained without a flag, and {settings.runs_folder} has no run yet",
            expected="a folder with images in folders named after their classes",
            next_step=f"python finetune.py --data-location {data.data_location or 'DIR'}",
        )
    data = run.recorded.data
    lines = [f"the last run is {run.name}, in {run.folder}; without a flag nothing is trained"]
    lines += [
        f"  {name:8} {text}"
        for name, text in (("data", ", ".join(data.locations)), ("model", run.recorded.model.model))
    ]
    if run.recorded.foreign is not None:
        lines += ["  it is a pool of checkpoints from other tools", "", "train a new run:"]
        lines += ["  python finetune.py --name NAME --data-location DIR"]
    else:
        lines += [f"  {'trained':8} {_describe_models(run)}", "", "add a model, with hyperparameters drawn at random:"]
        lines += _commands(run)
    print("\n".join(lines))


def _describe_models(run: Run) -> str:
    metric, scores = METRICS[run.recorded.metric], dict[str, float]()
    for path, card in run.finetunes().items():
        scores[path.stem] = card.scores.get("val", {}).get(metric.name, float("nan"))
    if not scores:
        return "no model yet"
    known = {name: score for name, score in scores.items() if score == score}
    text = f"{len(scores)} model{'s' if len(scores) > 1 else ''}"
    if known:
        best = (max if metric.higher_is_better else min)(known, key=lambda name: known[name])
        text += f"; best by validation {metric.name.replace('_', ' ')}: {best} ({known[best]:.4f})"
    return text


def _commands(run: Run) -> list[str]:
    taken = {card.training["index"] for card in run.finetunes().values()}
    free = next(index for index in range(len(taken) + 1) if index not in taken)
    command = f"  python finetune.py --name {run.name} --i {free}"
    lines = [f"{command} --hparams random"]
    if taken:
        record, last = run.folder / "settings.yaml", run.model_name(max(taken))
        lines += [f"or with those of {last}:", f"{command} --config {record}#{last}"]
    return lines
