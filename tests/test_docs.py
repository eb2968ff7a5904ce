"""What the documentation says is so."""

import ast
import inspect
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import typing
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import attrs
import pytest

import mbexec
import mbexec.processes
from mbexec import hookspecs, testing
from mbexec.core import errors, ghosts, jobfile, potential
from mbexec.graph import errors as graph_errors
from mbexec.testing import processes, programs

pytestmark = pytest.mark.sources

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md"))]
JOBS = sorted(ROOT.glob("examples/*.toml"))
SCRIPTS = sorted(ROOT.glob("examples/*.py"))
FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#\s]+)(#[^)]*)?\)")
HELIUM = {
    "molecule": {"geometry": "He 0 0 0\n--\nHe 0 0 3\n--\nHe 0 3 0"},
    "program": {"program": "model-potential", "method": "lj"},
}
CLUSTER = "4\nwater and a sodium ion\nO 0 0 0.1\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\nNa 3 0 0\n"


def name(path):
    """A page or an example, as a test's id."""
    return str(path.relative_to(ROOT))


def read(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    """Fenced blocks of a language, an info string and a text each; illustrations are left out."""
    found = [m for m in FENCE.finditer(read(page)) if m["language"] == language]
    return [(m["info"], m["text"]) for m in found if "illustration" not in m["info"]]


def having(language):
    """Pages that have blocks of a language."""
    return [pytest.param(page, id=name(page)) for page in PAGES if blocks(page, language)]


def marked(jobs):
    """Jobs, those that need more than the model potential marked."""
    real = [job for job in jobs if "model-potential" not in read(job)]
    return [pytest.param(job, id=name(job), marks=[pytest.mark.qc] * (job in real)) for job in jobs]


def rows(page, section=""):
    """Table rows of a page, or of one of its sections, as lists of cells."""
    text = read(page)
    if section:
        text = re.split(r"^## ", text.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]


def row_of(key, found):
    """The one row whose first cell is a key."""
    (row,) = [cells for cells in found if cells[0].strip() == f"`{key}`"]
    return row


@pytest.fixture
def checkout(tmp_path):
    """The working directory, with what the pages name in it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "cluster.xyz").write_text(CLUSTER)
    return tmp_path


@pytest.fixture(scope="module")
def generate():
    """The script that writes printed output into the pages."""
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", having("python"))
def test_python_on_a_page_runs(page, checkout):
    """The Python blocks of a page run, one after the other."""
    names = {"__name__": "__main__"}
    for _, text in blocks(page, "python"):
        exec(compile(text, name(page), "exec"), names)


@pytest.mark.parametrize("page", having("toml"))
def test_toml_on_a_page_is_part_of_a_job(page, checkout):
    """Each TOML block is a job, or makes one when its tables take the place of those of a small job; that one runs."""
    for _, text in blocks(page, "toml"):
        tables = tomllib.loads(text)
        job = {**HELIUM, **tables}
        assert len(mbexec.plan(job)) > 0
        if job["program"] == HELIUM["program"]:
            executor = tables.get("run", {}).get("executor") or next(iter(tables.get("plugin", {})), None)
            assert mbexec.run(job, executor=executor).result.success


@pytest.mark.current
@pytest.mark.parametrize("page", having("text"))
def test_help_texts_are_those_of_the_commands(page, generate):
    """The `--help` texts are what the commands print."""
    assert generate.with_help(read(page)) == read(page), "run python docs/generate.py"


@pytest.mark.current
@pytest.mark.parametrize("kind", ["", pytest.param("qc", marks=pytest.mark.qc)])
@pytest.mark.parametrize("page", having("console"))
def test_output_is_that_of_the_commands(page, kind, generate):
    """What a page shows below a command is what the command prints, times and last digits aside."""
    page = read(page)
    now = generate.with_output(page, lambda info: ("qc" in info) == bool(kind))
    assert generate.alike(page, now), "run python docs/generate.py"


@pytest.mark.parametrize("job", marked(JOBS))
def test_an_example_runs(job):
    """Each job among the examples gives a result."""
    assert mbexec.run(job).result.success


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_a_script_among_the_examples_runs(script, capsys):
    """Each script among the examples prints something."""
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


def test_the_readme_quotes_its_example():
    """The README's excerpt of a job stands in that job."""
    (text,) = [m["text"] for m in FENCE.finditer(read(ROOT / "README.md")) if m["language"] == "toml"]
    job = read(ROOT / "examples/water-trimer.toml").splitlines()
    assert [line for line in text.splitlines() if line not in (*job, "...")] == []


@pytest.mark.parametrize("mark", ["run", "test"])
def test_the_readme_has_its_commands(mark):
    """Each of the README's two commands is a line below its mark, and what it installs is there."""
    (command,) = re.findall(rf"^<!-- command: {mark} -->\n\n```\n(.*)\n```$", read(ROOT / "README.md"), re.M)
    for contrib in re.findall(r"plugins-contrib/\S+", command):
        assert (ROOT / contrib / "pyproject.toml").is_file()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    """Every relative link of a page leads to a file or a folder."""
    lost = [m["path"] for m in LINK.finditer(read(page)) if not (page.parent / m["path"]).exists()]
    assert lost == []


def test_hooks_stand_in_the_docs_with_their_arguments():
    """The page of hooks has a heading for each hook, with its exact argument list, and for nothing else."""
    hooks = [hook for hook in vars(hookspecs).values() if hasattr(hook, "mbexec_spec")]
    expected = {f"{hook.__name__}({', '.join(inspect.signature(hook).parameters)})" for hook in hooks}
    assert set(re.findall(r"^### `(.*)`$", read(DOCS / "hooks.md"), re.MULTILINE)) == expected


def test_events_stand_in_the_docs_with_their_attributes():
    """The page of hooks lists every event and all of its attributes."""
    for event in typing.get_args(mbexec.MetricsEvent):
        row = row_of(event.__name__, rows(DOCS / "hooks.md"))
        assert [field for field in attrs.fields_dict(event) if f"`{field}`" not in row[-1]] == []


def test_public_names_stand_in_the_reference():
    """The API reference has every public name of each module that it tells of, and no other."""
    found = {}
    for section in read(DOCS / "api.md").split(".. currentmodule:: ")[1:]:
        names = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)$", section, re.MULTILINE)
        found.setdefault(section.split()[0], []).extend(names)
    assert {module: sorted(names) for module, names in found.items()} == {
        "mbexec": sorted(mbexec.__all__),
        "mbexec.processes": sorted(mbexec.processes.__all__),
        "mbexec.testing": sorted(testing.__all__),
    }


@pytest.mark.parametrize(("section", "settings"), [("run", mbexec.RunSettings), ("task", mbexec.TaskSettings)])
def test_settings_stand_in_the_docs(section, settings):
    """Every key of [run] and [task] has a row with its default and what is allowed, in the words of the messages."""
    found = rows(DOCS / "job-file.md", f"`[{section}]`")
    assert len(found) == 2 + len(attrs.fields(settings))
    for field in attrs.fields(settings):
        cells = row_of(field.name, found)
        assert cells[3] == field.metadata["allowed"]
        if isinstance(field.default, str):
            assert cells[2] == f'`"{field.default}"`'


@pytest.mark.parametrize("section", ["molecule", "mbe", "program"])
def test_chemistry_stands_in_the_docs(section):
    """Every key of [molecule], [mbe] and [program] has a row with what is allowed, in the words of the messages."""
    found = rows(DOCS / "job-file.md", f"`[{section}]`")
    assert len(found) == 2 + len(jobfile._RULES[section])
    for key, (allowed, _) in jobfile._RULES[section].items():
        assert row_of(key, found)[3] == allowed


def test_settings_of_plugins_stand_in_the_docs():
    """The settings of each built-in plugin stand in its row."""
    found = rows(DOCS / "job-file.md", "`[plugin.NAME]`")
    for point in entry_points(group="mbexec"):
        if point.dist.name == "mbexec":
            (row,) = [cells for cells in found if f"`{point.name}`" in cells[0]]
            keys = inspect.signature(point.load()).parameters
            assert [key for key in keys if f"`{key}`" not in row[1]] == []
            assert keys or row[1] == "none"


def test_parameters_of_the_model_potential_stand_in_the_docs():
    """The table of elements is the program's, and so are the units of its keywords."""
    found = rows(DOCS / "programs.md", "The model potential")
    elements = {cells[0]: tuple(map(float, cells[1:])) for cells in found if cells[0] in potential.TABLE}
    assert elements == potential.TABLE
    assert {key: row_of(key, found)[2] for key in potential.UNITS} == potential.UNITS


def test_programs_and_their_ghosts_stand_in_the_docs():
    """The page of programs names every program of which it is known what it makes of ghost atoms."""
    known = read(DOCS / "programs.md").partition("**honoured**")[2]
    honoured, _, rest = known.partition("**stripped**")
    stripped = rest.partition("**asked**")[0]
    assert set(re.findall(r"`([\w-]+)`", honoured)) >= ghosts._HONOURED
    assert set(re.findall(r"`([\w-]+)`", stripped)) == ghosts._STRIPPED


@pytest.mark.parametrize(
    ("page", "section", "rules"),
    [
        ("writing-an-executor", "Rules", testing.EXECUTOR_RULES),
        ("writing-a-plugin", "Test it", testing.PLANNER_RULES + testing.REPORTER_RULES + testing.STORE_RULES),
    ],
)
def test_rules_stand_in_the_docs(page, section, rules):
    """Every rule of the conformance kits has a row with what it asks, in the words of its docstring, and in order."""
    found = [cells for cells in rows(DOCS / f"{page}.md", section) if cells[0].startswith("`")]
    assert found == [[f"`{rule.__name__}`", " ".join(rule.__doc__.split())] for rule in rules]


def test_what_an_executor_says_of_itself_stands_in_the_docs():
    """Every attribute has a row, in the words of the hook."""
    found = rows(DOCS / "writing-an-executor.md", "What an executor says of itself")[2:]
    contract = " ".join(inspect.getdoc(hookspecs.submit_level).replace("``", "`").split())
    assert {cells[0].strip("`") for cells in found} == {*processes.CAPABILITIES, "max_workers"}
    assert [cells[0] for cells in found if f"{cells[0].strip('`')} {cells[1]}" not in contract] == []


def test_toys_stand_in_the_docs():
    """Every keyword of the toy has a row, in the order in which it is done."""
    found = rows(DOCS / "writing-an-executor.md", "Toy programs")[2:]
    assert [cells[0].strip("`") for cells in found] == list(programs._DEEDS)


def template(node):
    """A message as it stands in the source, with an ellipsis for what differs from case to case."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(template, node.values))
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="unknown"))):
            return "unknown …"
        case _:
            return "…"


def messages(folder):
    """Templates of all messages below a folder that have words of their own."""
    raised = {*errors.__all__, *graph_errors.__all__, "BadParameter", "warn"}
    calls = [
        node
        for path in sorted(folder.glob("**/*.py"))
        for node in ast.walk(ast.parse(read(path)))
        if isinstance(node, ast.Call) and node.args
    ]
    named = [(getattr(call.func, "attr", getattr(call.func, "id", "")), call.args[0]) for call in calls]
    found = {template(text) for function, text in named if function in raised}
    return {text for text in found if len(re.findall(r"\w", text)) > 6}


def covers(entry, message):
    """Whether an entry of the page is the message, or its beginning."""
    start = entry.rstrip(" …")
    pattern = ".+".join(map(re.escape, message.split("…")))
    return message.startswith(start) or re.fullmatch(pattern, start) is not None


def test_messages_stand_in_the_docs():
    """Every message of mbexec has an entry on the page of troubleshooting, and every entry is a message."""
    entries = [
        cells[0].strip("`") for cells in rows(DOCS / "troubleshooting.md") if re.fullmatch(r"`[^`]* [^`]*`", cells[0])
    ]
    own = messages(ROOT / "mbexec")
    everyone = own | messages(ROOT / "plugins-contrib/mbexec-loky/src")
    assert [message for message in sorted(own) if not any(covers(entry, message) for entry in entries)] == []
    assert [entry for entry in entries if not any(covers(entry, message) for message in everyone)] == []


def templates(folder):
    """Templates of everything that the sources below a folder say."""
    trees = (ast.parse(read(path)) for path in folder.glob("**/*.py"))
    said = (
        template(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)
    )
    return {text for text in said if len(re.findall(r"\w", text)) > 6}


def begins(text, seen):
    """Whether what one sees is the beginning of a template, its gaps filled in or not."""
    if text.startswith(seen):
        return True
    parts = text.split("…")
    if not seen.startswith(parts[0]):  # most of them by far
        return False
    beginnings = [parts[:count] for count in range(1, len(parts) + 1)]
    worded = [each for each in beginnings if len(re.findall(r"\w", "".join(each))) > 6]
    return any(re.fullmatch(".*".join(map(re.escape, each)), seen) for each in worded)


def test_what_one_sees_is_what_is_printed():
    """Every message among the symptoms is one that mbexec or a contributed distribution has words for."""
    said = {text for folder in ("mbexec", "plugins-contrib") for text in templates(ROOT / folder)}
    symptoms = read(DOCS / "troubleshooting.md").partition("\n## Installation\n")[2]
    seen = [text.rstrip(" …") for text in re.findall(r"^`([^`]* [^`]*)`\n: ", symptoms, re.MULTILINE)]
    assert len(seen) > 20
    assert [each for each in seen if not any(begins(text, each) for text in said)] == []


@pytest.mark.current
def test_the_pages_build_without_a_warning(tmp_path):
    """Sphinx builds the pages, and every reference in them leads somewhere."""
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*build, DOCS, tmp_path / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").is_file()


@pytest.mark.current
def test_the_changelog_builds():
    """Every fragment is of a known kind, and towncrier makes a changelog of them."""
    fragments = [path for path in ROOT.glob("changelog.d/*") if path.name != ".gitignore"]
    assert [path.name for path in fragments if not re.search(r"\.(added|changed|fixed|removed)\.md$", path.name)] == []
    build = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.0", "--dir", ROOT]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(read(path).strip().split("`")[0] in done.stdout for path in fragments)
