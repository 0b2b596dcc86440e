"""What people see in optuna-dashboard: the notes and pictures in the storage, and real pages."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import pytest
from optuna_dashboard import get_note, save_note
from typer.testing import CliRunner

from lrfinder.cli import app
from lrfinder.commands import finished_run, start, write_again
from lrfinder.errors import Interrupted
from lrfinder.report.dashboard import enrich, stored, worth_opening
from lrfinder.report.dashboard_notes import Pages
from lrfinder.report.progress import Silent
from lrfinder.report.tables import ranking
from lrfinder.report.wording import conclusions
from lrfinder.results.opening import open_run
from lrfinder.settings import RunSettings

SETTINGS = {
    "task": "linear",  # its own StepLR is the baseline, a candidate without a study
    "families": ["step", "cosine"],
    "epochs": 6,
    "trials": 3,
    "find_seeds": 3,
    "steps": 60,
    "probes": 3,
    "confirm_seeds": 3,
}
FAMILIES = ["constant", "step", "cosine"]
PAGES = Pages({"constant": 1, "step": 2, "cosine": 3})
PICTURES = {
    "range_test.png",
    "comparison.png",
    "schedules.png",
    "parameters.png",
    "best_trial.png",
}
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ADDRESS = re.compile(r"/artifacts/(\d+)/([0-9a-f-]+)")


@pytest.fixture(scope="session")
def unseen(tmp_path_factory) -> Path:
    """A finished run whose dashboard was never opened, to read and never to change."""
    folder = tmp_path_factory.mktemp("dashboard") / "r"
    start(RunSettings(**SETTINGS), folder)
    return folder


@pytest.fixture(scope="session")
def finished(unseen, tmp_path_factory) -> Path:
    """A finished run with all its pictures, to read and never to change."""
    folder = Path(shutil.copytree(unseen, tmp_path_factory.mktemp("pictures") / "r"))
    write_again(finished_run(folder))
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def call(*words: str):
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def studies(folder: Path) -> dict[str, optuna.Study]:
    """Studies of a run by family, in order of their numbers."""
    storage, run = stored(open_run(folder)), open_run(folder)
    names = {family: f"{run.config['run']['name']}-{family}" for family in FAMILIES}
    return {f: optuna.load_study(study_name=n, storage=storage) for f, n in names.items()}


def best_trial_note(folder: Path, family: str) -> str:
    run = open_run(folder)
    storage, facts = stored(run), run.summary["families"][family]
    study = optuna.load_study(study_name=facts["study"], storage=storage)
    number = storage.get_study_id_from_name(facts["study"])
    trial = storage.get_trial_id_from_study_id_trial_number(number, facts["best_trial"])
    return get_note(optuna.Trial(study, trial))


def state(folder: Path) -> tuple:
    """Everything of ours that the storage and the artifact folder hold."""
    storage = stored(open_run(folder))
    numbers = [storage.get_study_id_from_name(s.study_name) for s in studies(folder).values()]
    attrs = [storage.get_study_system_attrs(number) for number in numbers]
    files = {path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()}
    return attrs, [study.user_attrs for study in studies(folder).values()], files


class Interrupting(Silent):
    """Ctrl-C at the beginning of an act."""

    def __init__(self, act: str) -> None:
        self.act = act

    def stage(self, name: str, updates: int) -> None:
        if name == self.act:
            raise KeyboardInterrupt


def interrupted(folder: Path, act: str) -> Path:
    with pytest.raises(Interrupted):
        start(RunSettings(**SETTINGS), folder, Interrupting(act))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_note_of_every_study_gives_the_answer_of_the_run_first(finished, family):
    run = open_run(finished)
    note = get_note(studies(finished)[family])
    best = run.summary["recommended"]
    assert note.startswith(f"# Answer: {best['family']} at lr {best['lr']:.3g}\n")
    assert all(f"- {sentence}\n" in note for sentence in conclusions(run))
    assert f"# lr = {best['lr']!r}\n{best['code']}\n```" in note
    for row in ranking(run).rows:
        assert f" | {' | '.join(row[1:])} |\n" in note


@pytest.mark.parametrize("family", FAMILIES)
def test_the_note_of_a_study_says_what_the_study_found(finished, family):
    run, note = open_run(finished), get_note(studies(finished)[family])
    best = run.summary["families"][family]["best_trial"]
    assert f"## This study: {family}\n\nPlace " in note
    assert f"[Trial {best}]({PAGES.trial(family, best)})" in note
    suggestion = run.suggestion
    assert f"Verdict: {suggestion.verdict}. Lr {suggestion.lr:.3g} (90% interval " in note
    links = set(re.findall(r"\]\((/dashboard/[^)]*)\)", note))
    assert {PAGES.note(other) for other in FAMILIES} | {PAGES.compare} <= links


@pytest.mark.parametrize("family", FAMILIES)
def test_notes_hold_neither_formulas_nor_html(finished, family):
    for note in (get_note(studies(finished)[family]), best_trial_note(finished, family)):
        prose = re.sub(r"```.*?```", "", note, flags=re.DOTALL)
        assert not set(prose) & set("$<>\\")


def test_no_number_but_a_searched_parameter_is_longer_than_a_person_reads(finished):
    for family, study in studies(finished).items():
        texts: list[object] = [get_note(study), best_trial_note(finished, family)]
        texts += study.user_attrs.values()
        for trial in study.trials:
            texts += [trial.value, *trial.intermediate_values.values(), *trial.user_attrs.values()]
        said = ADDRESS.sub("", " ".join(map(str, texts)))
        digits = [number.replace(".", "").lstrip("0") for number in re.findall(r"[\d.]+", said)]
        assert max(map(len, digits)) <= 12


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_a_note_are_artifacts_of_its_study(finished, family):
    study = studies(finished)[family]
    found = {
        meta.artifact_id: meta.filename for meta in optuna.artifacts.get_all_artifact_meta(study)
    }
    assert set(found.values()) == PICTURES
    number = FAMILIES.index(family) + 1
    assert set(ADDRESS.findall(get_note(study))) == {(str(number), id_) for id_ in found}
    for id_, name in found.items():
        content = (finished / "artifacts" / id_).read_bytes()
        assert content.startswith(b"\x89PNG")
        if name != "best_trial.png":
            assert content == (finished / name).read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_trial_shows_its_curve_its_code_and_its_fresh_seeds(finished, family):
    run, note = open_run(finished), best_trial_note(finished, family)
    facts = run.summary["families"][family]
    fresh = next(row[3] for row in ranking(run).rows if row[0] == family)
    assert f"Searched valid_loss: {facts['search_value']:.4g}," in note
    assert f"On fresh seeds: {fresh}," in note
    assert f"{facts['code']}\n```" in note
    (shown,) = ADDRESS.findall(note)
    metas = optuna.artifacts.get_all_artifact_meta(studies(finished)[family])
    assert {m.artifact_id: m.filename for m in metas}[shown[1]] == "best_trial.png"


def test_writing_again_replaces_and_piles_nothing_up(copy):
    before = state(copy)
    assert call("report", str(copy)).exit_code == 0
    assert state(copy) == before
    assert call("run", "--resume", str(copy), "-q").exit_code == 0
    after = state(copy)
    assert after[1:] == before[1:]
    assert [set(attrs) for attrs in after[0]] == [set(attrs) for attrs in before[0]]


def test_what_people_write_below_a_note_stays_and_a_deleted_picture_comes_back(copy):
    study, run = studies(copy)["step"], open_run(copy)
    storage = stored(run)
    ours = get_note(study)
    save_note(study, ours.replace("# Answer", "# Question") + "\nmine\n")
    picture = optuna.artifacts.get_all_artifact_meta(study)[0].artifact_id
    (copy / "artifacts" / picture).unlink()  # what the dashboard's button for it does
    number = storage.get_study_id_from_name(study.study_name)
    storage.set_study_system_attr(number, f"artifacts:{picture}", json.dumps(None))
    enrich(run, storage, pictures=True)
    above, _, below = get_note(study).partition("\nmine\n")
    assert ADDRESS.sub("", above) == ADDRESS.sub("", ours)
    assert below == ""
    assert len(list((copy / "artifacts").iterdir())) == len(FAMILIES) * len(PICTURES)


def test_another_storage_is_written_too_and_json_stays_one_object(tmp_path):
    url = f"sqlite:///{tmp_path / 'all.db'}"
    optuna.create_study(study_name="somebody else's", storage=url)
    words = ["linear", "--families", "step", "--epochs", "4", "--trials", "2"]
    words += ["--confirm-seeds", "2", "--find-seeds", "2", "--steps", "40", "--storage", url]
    result = call("run", *words, "--out", str(tmp_path / "r"), "--json", "-q")
    assert json.loads(result.stdout)["best"]["code"]
    assert result.stderr == ""
    assert not (tmp_path / "r" / "study.db").exists()
    note = get_note(optuna.load_study(study_name="r-step", storage=url))
    assert note.startswith("# Answer: ")
    number = optuna.storages.RDBStorage(url).get_study_id_from_name("r-constant")
    assert f"(/dashboard/studies/{number}/note)" in note
    assert get_note(optuna.load_study(study_name="somebody else's", storage=url)) == ""


def test_a_family_that_could_not_be_compared_says_so(copy):
    summary = json.loads((copy / "summary.json").read_text())
    answered = {summary[kind]["family"] for kind in ("best", "recommended")}
    other = next(name for name in studies(copy) if name not in answered)
    rows = (copy / "comparison.csv").read_text().splitlines(keepends=True)
    (copy / "comparison.csv").write_text("".join(r for r in rows if not r.startswith(other)))
    del summary["families"][other]
    (copy / "summary.json").write_text(json.dumps(summary))
    run = open_run(copy)
    enrich(run, stored(run), pictures=True)
    assert "None of its trials could be compared." in get_note(studies(copy)[other])


def test_an_interrupted_run_shows_its_suggestion_and_no_answer(tmp_path):
    folder = interrupted(tmp_path / "r", "comparison")
    run = open_run(folder)
    for study in studies(folder).values():
        note = get_note(study)
        assert note.startswith("# No answer yet\n")
        assert f"Verdict: {run.suggestion.verdict}. Lr {run.suggestion.lr:.3g}" in note
        assert f"`lrfinder run --resume {folder}`" in note
    assert list(worth_opening(run, PAGES)) == ["so far", "all families", "home"]
    assert call("run", "--resume", str(folder), "-q").exit_code == 0
    assert get_note(studies(folder)["step"]).startswith("# Answer: ")


@pytest.mark.parametrize("command", ["dashboard", "report"])
def test_a_lost_storage_is_told_in_one_line_and_none_is_made(copy, command):
    (copy / "study.db").unlink()
    result = call(command, str(copy))
    assert result.exit_code == (2 if command == "dashboard" else 0)
    assert f"{copy / 'study.db'} is missing" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (copy / "study.db").exists()


def test_a_run_without_studies_yet_has_no_dashboard(tmp_path):
    result = call("dashboard", str(interrupted(tmp_path / "r", "range test")))
    assert result.exit_code == 2
    assert "lrfinder run --resume" in result.stderr


def test_a_port_in_use_is_told_in_one_line(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = call("dashboard", str(finished), "--port", str(port))
    assert result.exit_code == 2
    assert f"port {port} cannot be used: Address already in use" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_run_leaves_the_pictures_of_its_notes_to_those_who_open_them(unseen):
    assert list((unseen / "artifacts").iterdir()) == []
    for study in studies(unseen).values():
        note = get_note(study)
        assert f"`lrfinder dashboard {unseen}` draws the pictures of this note." in note
        assert not ADDRESS.search(note)


@pytest.fixture(scope="session")
def served(unseen, tmp_path_factory):
    """Pages that the real command names, while it serves the finished run."""
    finished = shutil.copytree(unseen, tmp_path_factory.mktemp("served") / "r")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lrfinder", "dashboard", str(finished), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        addresses: dict[str, str] = {}
        try:
            for line in process.stderr:
                what, _, address = line.strip().rpartition(" ")
                if address.startswith("http"):
                    addresses[what.strip()] = address
                if what.strip() == "home":
                    break
            yield addresses
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")


def test_the_command_names_the_pages_worth_opening(finished, served):
    run = open_run(finished)
    best = next(name for name in run.summary["families"] if name in FAMILIES)
    number = run.summary["families"][best]["best_trial"]
    paths = {what: address.split("/", 3)[3] for what, address in served.items()}
    assert {what: f"/{path}" for what, path in paths.items()} == {
        "answer": PAGES.note(best),
        "best trial": PAGES.trial(best, number),
        "all families": PAGES.compare,
        "home": PAGES.home,
    }


def status_of(port: int, method: str, path: str, headers: list[tuple[str, str]]) -> int:
    """Status of the answer to a request that is written by hand, line by line."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers), "Content-Length: 0"]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return int(connection.makefile("rb").readline().split()[1])


STRANGERS = [
    [("Host", "evil.example")],
    [("Host", "evil.example:{port}")],
    [("Host", "127.0.0.1")],
    [("Host", "127.0.0.1:1")],
    [("Host", "localhost.evil.example:{port}")],
    [("Host", "127.0.0.1:{port}.evil.example")],
    [("Host", "127.0.0.1:{port}@evil.example")],
    [("Host", "0.0.0.0:{port}")],
    [("Host", "127.0.0.1:{port}"), ("Host", "evil.example")],
    [("Host", "127.0.0.1:{port}"), ("Origin", "http://evil.example")],
    [("Host", "127.0.0.1:{port}"), ("Origin", "null")],
    [],
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_the_dashboard_refuses_every_request_by_another_name(finished, served, headers):
    port = urlsplit(served["home"]).port
    named = [(name, value.format(port=port)) for name, value in headers]
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("/api/studies/3", "/dashboard", "/artifacts/1/x"):
            assert status_of(port, method, path, named) == 403
    assert set(FAMILIES) <= set(studies(finished))


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_dashboard_answers_by_its_own_names(served, name):
    port = urlsplit(served["home"]).port
    own = [("Host", f"{name}:{port}")]
    assert status_of(port, "GET", "/api/studies", own) == 200
    assert (
        status_of(port, "GET", "/api/studies", [*own, ("Origin", f"http://{name}:{port}")]) == 200
    )


@pytest.fixture(scope="session")
def browser():
    """Chromium; where it is missing the tests are skipped, or fail where they must not be."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        reason = f"no browser: none of {', '.join(names)} is installed"
        if os.environ.get("LRFINDER_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser, served):
    """An empty page; whatever goes wrong on it, or leaves this machine, fails the test."""
    host = urlsplit(served["home"]).netloc
    opened, wrong = browser.new_page(), []
    opened.set_default_timeout(30_000)

    def requested(request):
        url = urlsplit(request.url)
        if url.scheme in ("http", "https") and url.netloc != host:
            wrong.append(f"request to {request.url}")

    opened.on("request", requested)
    opened.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status} {r.url}"))
    opened.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text}"))
    opened.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
    yield opened
    opened.wait_for_load_state("networkidle")
    opened.close()
    assert wrong == []


def pictures_loaded(page, count: int):
    """Wait until a page shows so many pictures of the run, all of them really loaded."""
    page.wait_for_function(
        """count => {
            const all = [...document.querySelectorAll('img[src*="/artifacts/"]')];
            return all.length >= count && all.every(img => img.complete && img.naturalWidth > 0);
        }""",
        arg=count,
    )


def shows(page, text: str):
    page.get_by_text(text).locator("visible=true").first.wait_for()


@pytest.mark.browser
def test_the_home_page_lists_a_study_per_family(page, served):
    page.goto(served["home"])
    for family in FAMILIES:
        shows(page, f"r-{family}")


@pytest.mark.browser
def test_the_answer_and_its_pictures_are_on_the_note_page(page, served, finished):
    page.goto(served["answer"])
    run = open_run(finished)
    shows(page, f"Answer: {run.summary['best']['family']} at lr {run.summary['best']['lr']:.3g}")
    shows(page, conclusions(run)[0])
    shows(page, "Verdict: suggested.")
    pictures_loaded(page, len(PICTURES))


@pytest.mark.browser
def test_links_of_the_note_lead_to_other_studies_and_to_the_best_trial(page, served):
    page.goto(served["answer"])
    other = next(f for f in FAMILIES if f"/{FAMILIES.index(f) + 1}/" not in served["answer"])
    page.get_by_role("link", name=other, exact=True).first.click()
    shows(page, f"This study: {other}")
    page.get_by_role("link", name=re.compile(r"^Trial \d+$")).first.click()
    shows(page, f"Best trial of {other}")


@pytest.mark.browser
def test_the_first_page_of_a_study_shows_history_and_the_answer(page, served):
    page.goto(f"{served['home']}/studies/3")
    for title in ("History", "Hyperparameter Importance", "Intermediate values"):
        shows(page, title)
    shows(page, "answer of the run")
    shows(page, "this family")
    page.locator(".js-plotly-plot .main-svg").first.wait_for(state="visible")
    pictures_loaded(page, len(PICTURES))


@pytest.mark.browser
def test_the_analytics_page_and_the_list_of_trials_open(page, served, finished):
    page.goto(f"{served['home']}/studies/2/analytics")
    for title in ("Slice", "Contour"):
        shows(page, title)
    page.locator(".js-plotly-plot .main-svg").first.wait_for(state="visible")
    page.goto(f"{served['home']}/studies/2/trials")
    summaries = optuna.get_all_study_summaries(f"sqlite:///{finished / 'study.db'}")
    [trials] = [one.n_trials for one in summaries if one._study_id == 2]
    shows(page, f"{trials} Trials")


@pytest.mark.browser
def test_the_best_trial_shows_its_note_and_its_picture(page, served):
    page.goto(served["best trial"])
    shows(page, "Best trial of")
    shows(page, "On fresh seeds:")
    shows(page, "scheduler = ")
    shows(page, "before training")
    pictures_loaded(page, 1)


@pytest.mark.browser
def test_the_compare_page_shows_every_family(page, served):
    page.goto(served["all families"])
    for family in FAMILIES:
        shows(page, f"r-{family}")
    page.locator(".js-plotly-plot .main-svg").first.wait_for(state="visible")
