"""Private names of libraries that the package uses: each test says what to look at when a new version drops one."""

import inspect

import pytest

USES = {
    "torch.nn.modules.batchnorm._BatchNorm": "soups/evaluation/batchnorm.py finds layers with running statistics by it",
    "torch.cpu._is_avx512_bf16_supported": "soups/runtime/devices.py chooses bf16 on processors by it",
    "torch.cpu._is_amx_tile_supported": "soups/runtime/devices.py chooses bf16 on processors by it",
    "accelerate.state.AcceleratorState._reset_state": "soups/runtime/devices.py sets another precision with it",
    "optuna.storages._heartbeat.get_heartbeat_thread": "soups/pipeline/search/trials.py sends heartbeats by it",
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers": "soups/data/loader.py ends workers",
}


@pytest.mark.parametrize("name", USES)
def test_a_private_name_exists(name: str) -> None:
    import importlib

    parts = name.split(".")
    found: object = None
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            assert hasattr(found, part), f"{name} is gone: {USES[name]}"
            found = getattr(found, part)
        break
    assert callable(found), f"{name} is no longer callable: {USES[name]}"


def test_reset_takes_the_partial_state_too() -> None:
    from accelerate.state import AcceleratorState

    assert "reset_partial_state" in inspect.signature(AcceleratorState._reset_state).parameters


def test_optuna_s_trials_have_a_number_of_their_own() -> None:
    import optuna

    study = optuna.create_study()
    study.ask()
    hint = "soups/pipeline/search/trials.py writes to the storage by FrozenTrial._trial_id"
    assert all(isinstance(getattr(trial, "_trial_id", None), int) for trial in study.trials), hint
    assert hasattr(optuna.storages.RDBStorage, "record_heartbeat"), "trials of a database have no heartbeat any more"
    assert hasattr(optuna.storages.RDBStorage, "_get_stale_trial_ids"), "trials without heartbeats are not found"
