"""The table of commands, and the command `soups` that calls any of them.

The four scripts at the top of the repository and those in `scripts/` call the same table.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

_SETTINGS = "soups.pipeline.settings"
_TRAINING = f"{_SETTINGS}.commands:TRAINING_ENVIRONMENT"


@dataclass(frozen=True)
class Command:
    """A command: where its settings and its function are, and how it is shown. Nothing is imported until it runs."""

    settings: str
    """`module:class` of its settings."""
    function: str
    """`module:function`, which takes the parsed settings."""
    summary: str
    """One line for `soups --help`."""
    examples: tuple[str, ...] = ()
    """Arguments of examples, for `--help`."""
    environment: str | None = None
    """`module:mapping` of environment variables to settings."""


COMMANDS: dict[str, Command] = {
    "finetune": Command(
        f"{_SETTINGS}.commands:FinetuneSettings",
        "soups.pipeline.train.finetune:finetune",
        "Fine-tune one model or several from one start.",
        (
            "--name photos --data-location photos --model ViT-B/32 --i 0-11 --hparams random",
            "--i 3 --lr 3e-5 --epochs 8",
            "--name again --config runs/photos/settings.yaml",
        ),
        _TRAINING,
    ),
    "main": Command(
        f"{_SETTINGS}.commands:MainSettings",
        "soups.pipeline.commands.main:run_main",
        "Score models, make soups, compare and plot.",
        ("--greedy-soup", "--eval-individual-models --uniform-soup --greedy-soup --soup learned --report"),
        _TRAINING,
    ),
    "inference": Command(
        f"{_SETTINGS}.commands:InferenceSettings",
        "soups.pipeline.commands.predict:predict",
        "Predict test images with a model or an ensemble.",
        ("--soft-voting", "--model-name photos_greedy_soup --output submission.csv"),
        f"{_SETTINGS}.commands:INFERENCE_ENVIRONMENT",
    ),
    "validation": Command(
        f"{_SETTINGS}.commands:ValidationSettings",
        "soups.pipeline.commands.validate:validate",
        "Show which classes and images are predicted wrong.",
        ("", "--predictions a.csv b.csv --ground-truth truth.csv"),
        f"{_SETTINGS}.commands:VALIDATION_ENVIRONMENT",
    ),
    "search": Command(
        f"{_SETTINGS}.search:SearchSettings",
        "soups.pipeline.search.search:search",
        "Search hyperparameters with Optuna; each trial is a fine-tune of the run.",
        ("--name photos --data-location photos --trials 30",),
        _TRAINING,
    ),
    "compare": Command(
        f"{_SETTINGS}.compare:CompareSettings",
        "soups.pipeline.compare.networks:compare_models",
        "Fine-tune several networks under one budget and compare them.",
        ("--name nets --data-location photos --models ViT-B/32 timm:convnext_tiny --seeds 2 --epochs 5",),
    ),
    "study": Command(
        f"{_SETTINGS}.tools:StudySettings",
        "soups.pipeline.compare.study:study",
        "Repeat the experiment of a run over other splits and pool the gains.",
        ("--name photos --split-seeds 0-4",),
    ),
    "explain": Command(
        f"{_SETTINGS}.tools:ExplainSettings",
        "soups.pipeline.commands.explain:explain",
        "Draw class activation maps and measure how faithful they are.",
        ("--model-name photos_greedy_soup --method gradcam",),
    ),
    "curate": Command(
        f"{_SETTINGS}.tools:CurateSettings",
        "soups.pipeline.commands.curate:curate",
        "Pick the images of a pool that are most similar to a target set.",
        ("--pool pool --target photos --count 2000",),
    ),
    "find-label-errors": Command(
        f"{_SETTINGS}.tools:LabelErrorsSettings",
        "soups.pipeline.commands.label_errors:find_label_errors",
        "List labels that are probably wrong, as a corrections file and a page.",
        ("--name photos",),
        _TRAINING,
    ),
    "disagreement": Command(
        f"{_SETTINGS}.tools:DisagreementSettings",
        "soups.pipeline.commands.disagreement:list_disagreement",
        "List the images on which models or prediction tables disagree.",
        ("--members a.csv b.csv",),
    ),
    "show-batch": Command(
        f"{_SETTINGS}.tools:ShowBatchSettings",
        "soups.pipeline.commands.show_batch:show_batch",
        "Draw the first training images as the model will see them.",
        ("--name photos --data-location photos --augmentation randaugment",),
        _TRAINING,
    ),
    "push-to-hub": Command(
        f"{_SETTINGS}.delivery:PushSettings",
        "soups.pipeline.commands.push:push_to_hub",
        "Write a model as a folder that timm or open_clip loads, and push it.",
        ("--folder photos-model",),
    ),
    "export": Command(
        f"{_SETTINGS}.delivery:ExportSettings",
        "soups.pipeline.commands.export:export",
        "Write a model for torch.export or ONNX.",
        ("--format both",),
    ),
}


def run(name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command and return its exit code; see `soups.cli.outcome.run`.

    Args:
        name: a key of `COMMANDS`.
        argv: arguments; those of the process by default.
        prog: the command as `--help` shows it; `python <script>` by default.
    """
    from soups.cli import outcome
    from soups.cli.streams import restart_in_utf8_mode

    if argv is None:
        restart_in_utf8_mode()
    command = COMMANDS[name]

    def call(parsed: Any) -> None:
        resolve_name(command.function)(parsed)

    environment = resolve_name(command.environment) if command.environment else None
    settings = resolve_name(command.settings)
    return outcome.run(settings, call, argv, environment=environment, prog=prog, examples=command.examples)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `soups COMMAND [flags]` and return the exit code."""
    if argv is None:
        from soups.cli.streams import restart_in_utf8_mode

        restart_in_utf8_mode()
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help"):
        print(_overview())
        return 0
    if first == "--version":
        from soups import __version__

        print(f"soups {__version__}")
        return 0
    if first == "--completion":
        return _print_completion(arguments[1:])
    name = first.replace("_", "-")
    if name not in COMMANDS:
        from soups.core.errors import unknown_name

        print(f"error: soups: {unknown_name('command', first, COMMANDS)}", file=sys.stderr)
        return 2
    return run(name, arguments[1:], prog=f"soups {name}")


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    rows = [f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: soups COMMAND [flags]",
            "",
            "Model soups and ensembles for image classification.",
            "",
            "Commands",
            *rows,
            "",
            "soups COMMAND --help shows the flags of a command, soups --version the version.",
            'Completion in bash (or zsh): eval "$(soups --completion bash)"',
        ]
    )


def flags_of(name: str) -> list[str]:
    """Return every flag of a command, with dashes."""
    from soups.cli.help import flag_names

    return flag_names(resolve_name(COMMANDS[name].settings))


def _print_completion(words: Sequence[str]) -> int:
    if list(words) not in (["bash"], ["zsh"]):
        found = " ".join(words) or "nothing"
        print(f"error: soups --completion\n  expected: bash or zsh\n  found:    {found}", file=sys.stderr)
        return 2
    cases = "\n".join(f'    {name}) words="{" ".join(flags_of(name))}" ;;' for name in COMMANDS)
    if words[0] == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(
        f"""_soups() {{
  local words current="${{COMP_WORDS[COMP_CWORD]}}"
  case "$COMP_CWORD:${{COMP_WORDS[1]}}" in
    1:*) words="{" ".join(COMMANDS)} --help --version --completion" ;;
    *) case "${{COMP_WORDS[1]}}" in
{cases}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ "$COMP_CWORD" = 1 ] || [ -n "$COMPREPLY" ] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _soups soups"""
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
