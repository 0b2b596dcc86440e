"""What is public: names, commands and their options, exit codes. Everything else may change."""

import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from typer.testing import CliRunner

import lrfinder
from lrfinder import cli
from lrfinder.comparison.compare import compare
from lrfinder.range_tests.range_test import range_test
from lrfinder.schedules import DEFAULT_FAMILIES, FAMILIES
from lrfinder.settings import FindSettings, RangeTestSettings, RunSettings
from lrfinder.tuning.search import search

PACKAGE = Path(lrfinder.__file__).parent
PUBLIC = """
Baseline BatchedTrainer Candidate Comparison Curve FAMILIES Family History InProcess
InvalidArgument LRFinderError Loop Plan Processes Ray Run RunFolderError Schedule SequentialTrainer
Space StudyFileError Suggestion Task TaskFailed TaskLoadError Training compare fit load_task
open_run plots range_test run search
"""
PLOTS = """
ParameterPanel colour_scale comparison comparison_figure figures parameter_map parameter_panels
parameter_values parameters_figure png range_test range_test_figure save_range_test save_trial
schedule_curves schedules_figure
"""
SCHEDULES = """
Budget DEFAULT_FAMILIES FAMILIES Family GROWTHS LiveSchedule Params Rule Schedule Value family
"""
OF_A_RANGE_TEST = "min-lr max-lr steps probes cost every growth seed device engine"
OF_STUDIES = """
epochs families trials even trial-seeds confirm-runs confirm-seeds per warmup objective direction
baseline timeout storage workers ray resume
"""
SHARED = "out quiet json help"
OPTIONS = {
    "run": f"{OF_A_RANGE_TEST} {OF_STUDIES} {SHARED} find-seeds",
    "sweep": f"{OF_STUDIES} {SHARED} lr lr-range seed device engine",
    "find": f"{OF_A_RANGE_TEST} {SHARED} seeds timeout epochs schedule per warmup batch-sizes",
    "check": "task epochs updates-per-epoch per warmup json help",
    "report": "code help",
    "tasks": "help",
    "init": "kind help",
    "dashboard": "port help",
    "worker": "quiet help",
}


def test_public_names():
    assert sorted(lrfinder.__all__) == sorted(PUBLIC.split())
    assert sorted(lrfinder.plots.__all__) == sorted(PLOTS.split())
    assert sorted(lrfinder.schedules.__all__) == sorted(SCHEDULES.split())


@pytest.mark.parametrize("name", PUBLIC.split())
def test_a_public_name_is_never_hidden_by_a_module(name):
    """A function called like its module would be replaced by it on import."""
    assert not (PACKAGE / f"{name}.py").exists()
    assert getattr(lrfinder, name) is not None


def test_the_version_is_that_of_the_distribution_and_loads_nothing_heavy():
    assert lrfinder.__version__ == version("lrfinder")
    code = "import sys, lrfinder; lrfinder.__version__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "optuna"} & set(done.stdout.split())


def helps(*words: str) -> str:
    result = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_says_what_to_type_for_what_is_asked():
    asked = helps().partition("You ask")[2]
    known = {
        word.replace("_", "-") for word in {**RunSettings.model_fields, **FindSettings.model_fields}
    }
    assert set(re.findall(r"lrfinder (\w+)", asked)) == {"find", "check", "run", "sweep"}
    assert set(re.findall(r"--([\w-]+)", asked)) <= known


def test_the_commands_are_these():
    listed = helps().partition("Commands:")[2].partition("You ask")[0]
    assert set(re.findall(r"^  (\w+)", listed, re.MULTILINE)) == set(OPTIONS)


def test_the_list_of_commands_says_each_in_a_whole_line():
    result = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80"}, terminal_width=80)
    listed = result.output.partition("Commands:")[2].partition("You ask")[0]
    assert "..." not in listed
    assert all(line.endswith(".") for line in listed.strip().splitlines())


@pytest.mark.parametrize(("command", "takes"), [("run", True), ("sweep", True), ("find", False)])
def test_the_help_names_a_word_where_the_option_takes_it(command, takes):
    assert ("--warmup EPOCHS|search" in helps(command)) == takes


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_a_command_are_these(command):
    found = re.findall(r"^  (?:-\w, )?--([\w-]+)", helps(command), re.MULTILINE)
    assert sorted(found) == sorted(OPTIONS[command].split())


@pytest.mark.parametrize("command", OPTIONS)
def test_help_loads_nothing_heavy(command):
    code = [sys.executable, "-X", "importtime", "-m", "lrfinder", command, "--help"]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "optuna", "pandas", "matplotlib", "scipy", "sklearn", "numpy"}


def words_of(text: str) -> str:
    return " ".join(text.split())


OF_RUN = {*RangeTestSettings.model_fields, "groups"}
"""What `sweep` has no option for: a range test's, and what is a table of a settings file."""


@pytest.mark.parametrize(
    ("command", "kind", "left_out"),
    [
        ("run", RunSettings, {"lr", "lr_range", "groups"}),
        ("sweep", RunSettings, OF_RUN - {"seed", "device", "engine"}),
        ("find", FindSettings, set[str]()),
    ],
)
def test_help_has_the_description_the_default_and_the_choices_of_every_setting(
    command, kind, left_out
):
    shown = words_of(helps(command))
    for name in set(kind.model_fields) - left_out:
        field = kind.model_fields[name]
        assert words_of(field.description) in shown
        if isinstance(field.default, float):
            assert f"Default: {field.default:g}." in shown
        elif field.default not in (None, False):  # a flag is off
            assert f"Default: {field.default}." in shown
        kinds = (field.annotation, *get_args(field.annotation))
        choices = [kind for kind in kinds if get_origin(kind) is Literal]
        if name in ("every", "growth", "device", "engine", "per", "direction"):
            assert f"[{'|'.join(get_args(choices[0]))}]" in shown


def test_a_default_stands_once():
    """The acts and the settings have the same one, where they have one."""
    fields, spelt = RunSettings.model_fields, {"seeds": "find_seeds"}
    for act in (range_test, search, compare):
        for name, parameter in inspect.signature(act).parameters.items():
            field = fields.get(spelt.get(name, name) if act is range_test else name)
            has_default = parameter.default is not inspect.Parameter.empty
            if field is not None and has_default and name not in ("direction", "even"):
                assert field.default == parameter.default, (act.__name__, name)


def test_the_description_of_families_names_every_family_and_the_default_ones_first():
    text = RunSettings.model_fields["families"].description
    usual, _, others = text.partition("(the default)")
    assert [word for word in re.findall(r"\w+", usual) if word in FAMILIES] == list(
        DEFAULT_FAMILIES
    )
    named = {word for word in re.findall(r"\w+", others) if word in FAMILIES}
    assert named | set(DEFAULT_FAMILIES) == set(FAMILIES)


def test_exit_codes_are_documented():
    assert [code for code in (0, 1, 2, 3, 4, 130) if f"{code} " in cli.__doc__] == [
        *(0, 1, 2, 3, 4),
        130,
    ]


MARK = "loaded:"
FACE = {"matplotlib", "pandas", "sqlalchemy", "optuna_dashboard", "rich", "pydantic", "typer"}
SEARCH = {"optuna", "scipy"}
NEEDLESS = {"optuna_dashboard", "sklearn", "scipy.stats"}
QUADRATIC = "'quadratic', '--steps', '40', '--seeds', '1'"
LOADS = {
    "training": ("lrfinder.fit, lrfinder.Task, lrfinder.BatchedTrainer", FACE | SEARCH | NEEDLESS),
    "a range test": (
        "lrfinder.range_test(lrfinder.load_task('quadratic'), steps=40).suggest()",
        FACE | NEEDLESS | {"optuna"},
    ),
    "a search in memory": (
        "task = lrfinder.load_task('quadratic'); "
        "space = lrfinder.Space(lrfinder.FAMILIES['step'], 0.01, 0.1, 0.05, task.epochs, 1); "
        "lrfinder.search(task, [space], trials=2, seeds=[0])",
        FACE | NEEDLESS,
    ),
    "find": (
        f"from lrfinder.cli import app; app(['find', {QUADRATIC}], standalone_mode=False)",
        NEEDLESS | {"matplotlib", "pandas", "sqlalchemy"},
    ),
    "a run": (
        "lrfinder.run('quadratic', epochs=3, steps=40, probes=3, families=['step'], trials=1, "
        "confirm_seeds=2)",
        NEEDLESS,
    ),
}
"""What is done, in this order in one process, and what nothing up to there may load."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict[str, set[str]]:
    """What a fresh Python has loaded after each of `LOADS`."""
    code = ["import sys, lrfinder"]
    for what, (act, _) in LOADS.items():
        code += [act, f"print({MARK!r}, {what!r}, *sys.modules, sep=',')"]
    words = [sys.executable, "-c", "\n".join(code)]
    folder = tmp_path_factory.mktemp("loaded")
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    marked = [line.split(",")[1:] for line in done.stdout.splitlines() if line.startswith(MARK)]
    return {what: set(modules) for what, *modules in marked}


@pytest.mark.parametrize("what", LOADS)
def test_what_is_not_used_is_not_loaded(what, loaded):
    assert "lrfinder" in loaded[what]
    assert not LOADS[what][1] & loaded[what]


def test_what_is_done_later_may_load_more():
    """Else what is loaded could not be told in one process."""
    unused = [kinds for _, kinds in LOADS.values()]
    assert all(later <= earlier for earlier, later in pairwise(unused))
