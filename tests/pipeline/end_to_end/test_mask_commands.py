"""The command lines of the original mask competition code, with a tiny network, in their order."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import finetune
import inference
import main
import validation
from soups.checkpoints.card import read_card

COMMANDS = {"finetune.py": finetune.main, "main.py": main.main, "inference.py": inference.main}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """A folder that holds only the data in the layout `profile`."""
    folder = tmp_path_factory.mktemp("workplace")
    for part in ("train", "eval"):
        shutil.copytree(faces / part, folder / part)
    return folder


def command(line: str, *more: str) -> int:
    """Run a line such as `VARIABLE=value python main.py --flag`."""
    words = line.split()
    environment = dict(word.split("=", 1) for word in words[: words.index("python")])
    program, *arguments = words[words.index("python") + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        return COMMANDS[program]([*arguments, *more])


def test_the_original_instructions_run_in_their_order(
    workplace: Path, faces: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    # Without a network the weights come from a file; every other command takes the run's.
    network = ["--model", f"local-dir:{tiny_clip}", "--threads", "1"]
    assert command("python finetune.py --name age --target age --i 0 --epochs 10", *network) == 0
    assert command("python finetune.py --name mask --i 0 --batch-size 256 --epochs 10 --random-seed 42", *network) == 0
    assert "--data-location is not set: using train/images (layout profile)" in capsys.readouterr().err
    assert command("python finetune.py --old-aug True") == 0
    assert command("python finetune.py --loss-fn ContrastiveLoss") == 0
    assert command("python main.py --eval-individual-models --name mask") == 0
    assert command("python main.py --greedy-soup --name mask") == 0
    joined = "python inference.py --model-name mask0_epochs10.pt --weighted-ensemble age0_epochs10.pt"
    assert command(joined) == 0
    voted = "python inference.py --model-name mask0_epochs10.pt --soft-voting mask1_epochs10.pt"
    assert command(voted) == 0
    assert command("SM_CHANNEL_TRAIN=train/images SM_MODEL_DIR=elsewhere python finetune.py") == 0
    capsys.readouterr()
    evaluated = "SM_CHANNEL_EVAL=eval SM_CHANNEL_MODEL=elsewhere SM_OUTPUT_DATA_DIR=out python inference.py"
    assert command(evaluated) == 0
    (written,) = capsys.readouterr().out.split()
    assert Path(written).parent == Path("out")
    _check_what_is_there(written)
    monkeypatch.setenv("SM_GROUND_TRUTH_DIR", str(faces / "truth"))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "out")
    assert validation.main([]) == 0
    assert "of 30 images right" in capsys.readouterr().out


def _check_what_is_there(written: str) -> None:
    models = Path("runs/mask/models")
    assert sorted(path.stem for path in models.glob("*_epochs*")) == [f"mask{n}_epochs10" for n in range(3)]
    assert [path.stem for path in Path("elsewhere").glob("*_epochs*")] == ["mask0_epochs10"]
    cards: list[Any] = [
        read_card(path) for path in [*sorted(models.glob("*_epochs*")), *Path("elsewhere").glob("*0_*")]
    ]
    recorded = [(card.training["batch_size"], card.training["oversample"], card.training["loss_fn"]) for card in cards]
    assert recorded == [
        (256, None, "CrossEntropyLoss"),
        (64, ["age=old=2"], "CrossEntropyLoss"),
        (64, None, "ContrastiveLoss"),
        (64, None, "CrossEntropyLoss"),
    ]
    assert (models / "mask_greedy_soup.safetensors").exists()
    for path in (written, "runs/mask/output/weighted_ensemble.csv", "runs/mask/output/soft_voting.csv"):
        table = pd.read_csv(path)
        assert list(table.columns) == ["ImageID", "ans"] and len(table) == 30 and set(table["ans"]) <= set(range(18))


def test_download_of_the_start_models_without_a_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # A proxy that does not answer stands for a network that is not there, on whatever machine this runs.
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert command("python main.py --download-models --model-location DIR") == 4
    assert "model_0.pt" in capsys.readouterr().err
