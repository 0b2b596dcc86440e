"""Private names of other packages that are used, with what each is for: a release may drop one."""

import json

import optuna
import optuna_dashboard
import pytest
import torch
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.report import dashboard_attributes
from lrfinder.tasks.state.optimizer_copies import _by_torch
from lrfinder.training.batched.module_state import _TENSORS
from lrfinder.training.batched.optimizer_check import _STEP_HOOKS

optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


@pytest.mark.parametrize("name", _STEP_HOOKS)
def test_an_optimizer_keeps_the_hooks_of_its_steps(name):
    """A hook may hold on to what is not stacked, so runs with one are not batched."""
    assert name in vars(optimizer)


def test_a_module_keeps_its_tensors_where_they_are_looked_for():
    """What else a module holds must be the same in all runs of a population."""
    held = vars(nn.GRU(2, 2))
    assert set(_TENSORS) <= set(held)


def test_the_function_that_a_scheduler_puts_before_a_step_is_known_as_torchs():
    """It would step the original optimizer of a copy; any other such function is refused."""
    own = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    StepLR(own, 1)
    assert "step" in vars(own)
    assert _by_torch(own, "step", vars(own)["step"])


def test_what_torch_compiles_keeps_the_module_that_it_was_made_of():
    """A LightningModule that was compiled is taken apart as the module itself."""
    module = nn.Linear(2, 2)
    assert torch.compile(module, backend="eager")._orig_mod is module


def test_a_loader_keeps_the_iterator_of_its_persistent_workers():
    """It has one random state for every epoch; a twin without it is iterated instead."""
    assert "_iterator" in vars(DataLoader(TensorDataset(torch.zeros(2, 1))))


def test_torch_has_a_generator_that_is_seeded_without_the_accelerators():
    assert isinstance(torch.default_generator, torch.Generator)


def test_optuna_keeps_the_parameters_that_a_trial_was_enqueued_with():
    """A trial that was interrupted is asked again with them."""
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.25})
    study.ask()
    assert study.get_trials()[0].system_attrs["fixed_params"] == {"x": 0.25}


def test_optuna_keeps_artifacts_in_the_attributes_of_a_study(tmp_path):
    """Those that were deleted on the dashboard included, which the public function cannot read."""
    (tmp_path / "file").write_text("x")
    study, store = optuna.create_study(), FileSystemArtifactStore(tmp_path)
    upload_artifact(artifact_store=store, file_path=str(tmp_path / "file"), study_or_trial=study)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    [value] = [value for key, value in attributes.items() if key.startswith("artifacts:")]
    assert {"artifact_id", "filename"} <= set(json.loads(value))


@pytest.mark.parametrize("length", [0, 5, 2045, 2046, 9000])
def test_the_dashboard_keeps_notes_in_the_attributes_of_a_study(length):
    """Its own functions and ours write and read the same."""
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    storage, number = study._storage, study._study_id
    id_ = study.get_trials()[0]._trial_id
    trial = optuna.Trial(study, id_)
    for text in ("a" * length, "b" * 5000, "c" * length):
        for owner, ours in ((study, None), (trial, id_)):
            optuna_dashboard.save_note(owner, text)
            before = storage.get_study_system_attrs(number)
            assert dashboard_attributes.get_note(storage, number, ours) == text
            dashboard_attributes.save_note(storage, number, text + "!", ours)
            assert optuna_dashboard.get_note(owner) == text + "!"
            dashboard_attributes.save_note(storage, number, text, ours)
            after = storage.get_study_system_attrs(number)
            changed = {key for key in after if after[key] != before.get(key) and after[key]}
            assert changed == {f"dashboard:{'' if ours is None else f'{ours}:'}note_ver"}
