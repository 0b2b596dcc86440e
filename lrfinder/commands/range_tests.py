"""A range test alone, or one at each of several batch sizes or lengths."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lrfinder import plots
from lrfinder.arrays import NUMPYS_DEFAULTS
from lrfinder.commands.asked import reference_text, seen_from, write_config
from lrfinder.experiment import FindExperiment, RangeTestExperiment
from lrfinder.pipeline.acts import range_test_act
from lrfinder.range_tests.by_epoch import facts_by_epoch
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.range_tests.series import Over, Series
from lrfinder.report.progress import Progress, Silent
from lrfinder.report.wording import engine_line, estimate
from lrfinder.results.answers import range_test_summary
from lrfinder.results.facts import jsonable
from lrfinder.results.folder import RunFolder
from lrfinder.results.range_test_facts import RangeTestFacts
from lrfinder.settings import FindSettings
from lrfinder.training import engine
from lrfinder.training.speed import threads


@NUMPYS_DEFAULTS
def find(
    settings: FindSettings, out: Path | None = None, progress: Progress | None = None
) -> tuple[str, Curve, Suggestion]:
    """Run a range test alone, and keep it in a folder where one is given.

    Returns the name of the task, the curve and what it suggests. Raises InvalidArgument or
    TaskLoadError, and leaves no folder behind where nothing was measured.
    """
    began, here = time.monotonic(), Path.cwd()
    named = reference_text(settings.task)
    experiment = FindExperiment(settings)
    folder = None if out is None else RunFolder.create(seen_from(here, out))
    try:
        curve = _range_test_alone(experiment, progress or Silent(), began)
    except BaseException:
        if folder is not None:
            folder.discard()
        raise
    like, per = experiment.task.prototype.stand_in, settings.per or experiment.task.per
    suggestion = curve.suggest(experiment.schedule, per=per, lr_ratios=like)
    if folder is not None:
        write_config(folder, settings, named)
        _keep_range_test(experiment, curve, suggestion, folder)
    return experiment.task.name, curve, suggestion


@NUMPYS_DEFAULTS
def find_each(
    settings: FindSettings, out: Path | None = None, progress: Progress | None = None
) -> Series:
    """Run a range test at each batch size or length that is asked for.

    With a folder, each has one of its own in it, as `find` makes it; series.json holds the whole.
    """
    each, shows = settings.one_by_one(), progress or Silent()
    over: Over = "epochs" if isinstance(settings.epochs, list) else "batch_size"
    for one in each.values():
        FindExperiment(one)  # what cannot be trained is refused before anything is
    folder = None if out is None else RunFolder.create(seen_from(Path.cwd(), out))
    found: dict[int, Suggestion] = {}
    try:
        for value, one in each.items():
            name = f"{over}-{value}"
            shows.say(name.replace("_", " ").replace("-", " "))
            inside = None if folder is None else folder.path / name
            _, _, found[value] = find(one, inside, shows)
    except BaseException:
        if folder is not None and not found:
            folder.discard()
        raise
    series = Series(over, tuple(found), tuple(found.values()))
    if folder is not None:
        folder.write_text("series.json", json.dumps(jsonable(series_facts(series))) + "\n")
    return series


def series_facts(series: Series) -> dict[str, Any]:
    """All that a series says, for JSON."""
    pairs = zip(series.values, series.suggestions, strict=True)
    return {
        "over": series.over,
        "suggestions": [{series.over: value, **asdict(one)} for value, one in pairs],
        "slope": None if series.slope is None else asdict(series.slope),
        "said": series.said(),
    }


def found_facts(name: str, curve: Curve, suggestion: Suggestion) -> dict[str, Any]:
    """All that a range test alone says, for JSON."""
    facts = {"task": name, **asdict(suggestion), **RangeTestFacts.of(curve).model_dump()}
    return {**facts, **facts_by_epoch(curve, suggestion)}


def _range_test_alone(experiment: RangeTestExperiment, shown: Progress, began: float) -> Curve:
    for note in experiment.task.data(experiment.device).notes():
        shown.say(f"note: {note}")
    settings, work = experiment.find_settings, experiment.find_work()
    chosen = engine.choose(
        experiment.task,
        experiment.device,
        work,
        settings.engine,
        on_subset=settings.every == "batch",
    )
    shown.say(estimate({"range test": work}, chosen.speed, training=experiment.updates))
    shown.say(engine_line(chosen.record()))
    with threads(chosen.threads):
        spent, timeout = time.monotonic() - began, settings.timeout
        left = None if timeout is None else max(timeout - spent, 1e-9)
        curve = range_test_act(experiment, chosen.trainer, shown, left)
    for note in experiment.task.data(experiment.device).later_notes():
        shown.say(f"note: {note}")
    return curve


def _keep_range_test(
    experiment: RangeTestExperiment, curve: Curve, suggestion: Suggestion, folder: RunFolder
) -> None:
    """Write the folder of a range test alone, which `open_run` reads like that of a run."""
    folder.write_curve(curve)
    folder.replace("range_test.png", lambda p: plots.save_range_test(p, curve, suggestion))
    folder.write_summary(range_test_summary(experiment, curve, suggestion))
