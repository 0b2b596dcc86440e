"""Settings files: every key is read or refused, in one line, whatever it is."""

import re
import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import InvalidArgument, StudyFileError, TaskLoadError
from lrfinder.experiment import training_seeds
from lrfinder.settings import FindSettings, RunSettings, read_settings_file, settings_from

KEYS = list(RunSettings.model_fields)
RECORD = {"name": "a", "task_hash": "b", "version": "0.1.0"}
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
VALUES = st.one_of(st.integers(-5, 5), st.booleans(), WORDS, st.lists(WORDS, max_size=2))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("settings") / "own.toml"


def refused(file, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyFileError) as error:
        read_settings_file(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    return str(error.value)


def test_the_table_of_a_run_folder_is_no_option(file):
    file.write_text(tomli_w.dumps({"task": "diabetes", "run": RECORD}))
    assert read_settings_file(file) == {"task": "diabetes"}


def test_options_in_a_table_run_are_refused_with_what_to_do(file):
    said = refused(file, '[run]\ntask = "diabetes"\nepocs = 3\n')
    assert "'task' is in the table 'run'; options belong at the top of the file" in said


@given(WORDS, VALUES)
def test_a_key_of_the_table_run_that_no_run_wrote_is_refused(file, key, value):
    if key not in RECORD:
        assert repr(key) in refused(file, tomli_w.dumps({"run": {**RECORD, key: value}}))


@given(st.dictionaries(st.sampled_from(list(RECORD)), VALUES | st.just({"task": "digits"})))
def test_a_table_run_that_is_no_record_of_a_run_is_refused(file, table):
    if set(table) != set(RECORD) or not all(isinstance(value, str) for value in table.values()):
        assert "the table 'run' is not the record of a run" in refused(
            file, tomli_w.dumps({"run": table})
        )


@given(WORDS, VALUES)
def test_an_unknown_key_is_refused(file, key, value):
    if key not in (*KEYS, "run"):
        assert f"there is no option '{key}'" in refused(file, tomli_w.dumps({key: value}))


@given(WORDS, st.dictionaries(WORDS, VALUES, max_size=2))
def test_a_table_is_refused_whatever_it_is_called(file, name, table):
    if name not in ("run", *KEYS):
        said = refused(file, tomli_w.dumps({"trials": 2, name: table}))
        assert "options belong at the top of the file, in no table" in said
        assert all(repr(key) in said for key in [*table][:1])


@given(st.sampled_from(KEYS), WORDS, VALUES)
def test_a_key_below_a_known_one_is_refused(file, key, below, value):
    refused(file, tomli_w.dumps({key: {below: value}}))


@pytest.mark.parametrize("key", [key for key in KEYS if key != "task"])
def test_a_known_key_is_read(file, key):
    values = {
        "families": ["step"],
        "lr_range": [0.01, 0.1],
        "every": "epoch",
        "growth": "linear",
        "device": "cpu",
        "engine": "sequential",
        "per": "batch",
        "direction": "maximize",
        "objective": "accuracy",
        "baseline": "0.1",
        "storage": "postgresql://localhost/x",
        "ray": "auto",
        "min_lr": 1e-5,
        "max_lr": 2.0,
        "warmup": 1.5,
        "lr": 0.5,
        "timeout": 60.0,
        "even": True,
        "groups": {"body": {"schedule": "cosine", "lr_ratio": [0.01, 1.0]}},
    }
    value = values.get(key, 9)
    file.write_text(tomli_w.dumps({key: value}))
    read = read_settings_file(file)
    assert read == {key: value}
    assert settings_from(RunSettings, read) != RunSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials = 2\ntrials = 3\n", "cannot be read"),
        ("trials = \n", "cannot be read"),
        ("trials = 0\n", "trials must be at least 1, but got 0"),
        ('run = "x"\n', "there is no option 'run'"),
        ("[[run]]\nname = 'a'\n", "there is no option 'run'"),
        ("trials = true\n", "trials must be a number, but got True"),
        ("lr = '0.1'\n", "lr must be a number, but got '0.1'"),
        ("lr_range = [0.1, '1']\n", "lr_range must be a number, but got [0.1, '1']"),
        (f"trials = {'1' * 5000}\n", "cannot be read"),
        (f"trials = {'[' * 5000}\n", "cannot be read"),
        ("task = 'a\\u0000.py'\n".replace("'", '"'), "task must hold no null character"),
        (f"seed = {10**15 + 1}\n", "seed must be at most 10"),
        ("[[trials]]\nx = 1\n", "trials must be a whole number"),
        ('every = "hour"\n', "every must be 'batch' or 'epoch', but got 'hour'"),
        ("min_lr = 1.0\nmax_lr = 0.1\n", "min_lr < max_lr must hold"),
        ("lr = inf\n", "lr must be finite"),
        ("even = 1\n", "even must be true or false, but got 1"),
        (
            "warmup = 'find'\n",
            "warmup must be a number of epochs, or search, but got 'find'",
        ),
        ("warmup = -1\n", "warmup must be at least 0, but got -1"),
        ("warmup = nan\n", "warmup must be at least 0, but got nan"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(file, text, said):
    assert said in refused(file, text)


def test_a_byte_order_mark_is_no_part_of_the_first_key(file):
    file.write_bytes(b"\xef\xbb\xbftrials = 3\n")
    assert read_settings_file(file) == {"trials": 3}


def test_bytes_that_are_no_utf8_are_refused(file):
    file.write_bytes(b"task = '\xff'\n")
    with pytest.raises(StudyFileError, match="cannot be read"):
        read_settings_file(file)


def test_a_task_that_is_a_file_lies_beside_the_settings_file(file):
    file.write_text('task = "my_task.py:own"\n')
    assert read_settings_file(file)["task"] == f"{file.parent.resolve()}/my_task.py:own"


@pytest.mark.parametrize("task", ["no_such_task", "other.toml", "<own>"])
def test_a_task_that_nothing_is_called_is_refused_with_the_name_of_the_file(file, task):
    file.write_text(tomli_w.dumps({"task": task}))
    with pytest.raises(TaskLoadError, match=re.escape(f"settings file {file}: ")):
        read_settings_file(file)


@given(st.sampled_from(KEYS), VALUES | st.sampled_from(["3", "0.5", "true", [1, True], ["1", 2]]))
def test_no_value_is_converted_to_a_number(key, value):
    try:
        taken = getattr(settings_from(RunSettings, {key: value}), key)
    except InvalidArgument:
        return
    if key != "storage":  # a relative file is made absolute
        assert taken == (tuple(value) if key == "lr_range" else value)
        assert isinstance(taken, bool | str) == isinstance(value, bool | str)


def test_numbers_of_numpy_are_numbers():
    values = {"epochs": np.int64(3), "warmup": np.float32(0.5), "lr_range": np.array([0.1, 1.0])}
    taken = settings_from(RunSettings, values)
    assert (taken.epochs, taken.warmup, taken.lr_range) == (3, 0.5, (0.1, 1.0))


def test_the_largest_seed_trains():
    most = settings_from(RunSettings, {"seed": 10**15}).seed
    seeds = [training_seeds(act, most, 1000)[-1] for act in ("find", "search", "confirm")]
    torch.Generator().manual_seed(max(seeds))


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_whatever_the_values_are_settings_are_made_or_refused_in_one_line(values):
    try:
        settings_from(RunSettings, values)
    except InvalidArgument as error:
        refusal = str(error)
    else:
        return
    assert "\n" not in refusal


def test_what_a_run_writes_is_what_it_reads():
    settings = RunSettings(families=["step"], trials=3, lr_range=(0.1, 1.0))
    written = tomllib.loads(tomli_w.dumps(settings.model_dump(exclude_none=True)))
    assert RunSettings(**written) == settings


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("epochs", 0, "epochs must be at least 1, but got 0"),
        ("epochs", [10, 0], "epochs"),
        ("batch_sizes", [0], "batch_sizes.0 must be"),
        ("warmup", -1.0, "warmup must be at least 0, but got -1.0"),
    ],
)
def test_a_refusal_names_the_option_and_nothing_of_how_it_is_checked(option, value, said):
    with pytest.raises(InvalidArgument) as refusal:
        settings_from(FindSettings, {option: value})
    assert str(refusal.value).startswith(said)
    assert re.match(r"[a-z_]+(\.\d+)* must ", str(refusal.value))


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**16), 10**16),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.floats() | WORDS | st.none(), max_size=3),
    st.dictionaries(WORDS, st.integers() | st.dictionaries(WORDS, WORDS, max_size=2), max_size=2),
)
PYDANTICS = re.compile(r"nput should|valid |validation|field required|pattern|instance of|parse")


@pytest.mark.parametrize("kind", [RunSettings, FindSettings])
@given(st.data())
def test_every_refusal_says_in_one_style_what_an_option_must_be(kind, data):
    key = data.draw(st.sampled_from([*kind.model_fields]))
    value = data.draw(ANYTHING)
    try:
        settings_from(kind, {key: value})
    except InvalidArgument as error:
        said = str(error)
        assert said.startswith(key) or f"{key}." in said or "max_lr must hold" in said
        assert not PYDANTICS.search(said.removesuffix(repr(value))), said
        assert re.search(r" must |there is no|cannot ", said), said
