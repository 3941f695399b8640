"""The documents say what the code says: their tables, names, diagram and links."""

from __future__ import annotations

import ast
import re
import shlex
import sqlite3
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from smarterrouter import config, errors
from smarterrouter.assembly.machines import STATED, node_limits
from smarterrouter.backends.llamacpp import LlamaCppBackend
from smarterrouter.backends.managed.backend import ManagedBackend
from smarterrouter.backends.ollama.backend import OllamaBackend
from smarterrouter.cli.main import FAILED, UNREACHABLE, WRONG_USAGE
from smarterrouter.cli.main import app as cli
from smarterrouter.daemon.admin import VERBS
from smarterrouter.domain.chat import Endpoint
from smarterrouter.domain.devices import HOST, GpuDevice
from smarterrouter.domain.outcomes import Outcome
from smarterrouter.domain.ports import Backend
from smarterrouter.gpu.amdgpu import AMD
from smarterrouter.gpu.apple import APPLE
from smarterrouter.gpu.intel import BAR, I915, INTEL, XE
from smarterrouter.gpu.nvml import NVIDIA
from smarterrouter.gpu.remote import EXPORTERS, ROUTER
from smarterrouter.profiling.files import read_profiles
from smarterrouter.residency.eviction import Strategy
from smarterrouter.residency.history import Kind
from smarterrouter.residency.states import TABLE
from smarterrouter.routing import decision
from smarterrouter.routing.features import GROUPS
from smarterrouter.store.migrations import migrate
from tests.support import settings_table

ROOT = Path(__file__).parent.parent
PACKAGE = Path(errors.__file__).parent
DAEMON = PACKAGE / "daemon"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
OF_THE_COMMAND_LINE = {"ROUTER_URL"}


def page(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of any level."""
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading}"
    return re.split(r"^#+ ", below, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row whose first cell is code, back-quotes left out."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_is_named_is_a_setting(document: Path) -> None:
    named = set(re.findall(r"\bROUTER_[A-Z_]*[A-Z]", document.read_text()))
    assert named <= config.variables().keys() | OF_THE_COMMAND_LINE


def test_the_tables_of_settings_are_those_of_the_code() -> None:
    assert settings_table.written(page("settings.md")) == settings_table.tables()


def test_the_diagram_of_states_is_the_table_of_moves() -> None:
    drawn = re.findall(r"^ +(\w+) --> (\w+): (.+)$", page("residency.md"), re.MULTILINE)
    assert drawn == [(str(state), str(to), str(move)) for (state, move), to in TABLE.items()]


def test_the_strategies_of_eviction_are_those_there_are() -> None:
    told = rows(section(page("residency.md"), "## Eviction"))
    assert [name for name, *_ in told] == list(Strategy)


def test_who_places_models_is_told_for_each_kind_that_loads_any() -> None:
    told = rows(section(page("residency.md"), "## Placement"))
    kinds = (ManagedBackend, OllamaBackend, LlamaCppBackend)
    assert {(who, whose) for who, whose, *_ in told} == {(k.placing, k.kind) for k in kinds}


def test_the_kinds_of_events_are_those_there_are() -> None:
    told = rows(section(page("residency.md"), "## History"))
    assert [name for name, *_ in told] == list(Kind)


def test_what_residency_refuses_with_has_the_status_that_is_told() -> None:
    told = rows(section(page("residency.md"), "## What a client is told"))
    assert told
    for name, status, *_ in told:
        assert str(getattr(errors, name).status) == status


@pytest.mark.parametrize("name", ["residency.md", "devices.md"])
def test_every_group_of_settings_that_is_named_has_such_a_setting(name: str) -> None:
    there = {".".join(path) for path, _ in config.leaves()}
    groups = {path.partition(".")[0] for path in there if "." in path}
    named = re.findall(r"`([a-z_]+)\.([a-z_]+)(?: = \w+)?`", page(name))
    assert {f"{group}.{key}" for group, key in named if group in groups} <= there


def test_the_settings_of_residency_are_settings() -> None:
    told = {name for name, *_ in rows(section(page("residency.md"), "## Settings"))}
    assert told <= {".".join(path) for path, _ in config.leaves()}


def test_the_vendors_of_devices_are_those_there_are() -> None:
    told = [vendor for vendor, *_ in rows(section(page("devices.md"), "## Which are seen"))]
    assert told == [NVIDIA, AMD, INTEL, APPLE, HOST, STATED]


def test_the_sources_of_intels_figures_are_those_there_are() -> None:
    assert [name for name, *_ in rows(section(page("devices.md"), "### Intel"))] == [XE, I915, BAR]


def test_the_machines_that_are_understood_are_those_there_are() -> None:
    told = [name for name, *_ in rows(section(page("devices.md"), "### Other machines"))]
    assert told == [ROUTER, *(exporter.source for exporter in EXPORTERS)]


def test_budgets_are_shared_out_as_is_told() -> None:
    listed = section(page("devices.md"), "## Budgets")
    examples = re.findall(r"^\| (\d.*) \| (none|\d+) \| (.*) GB \|$", listed, re.MULTILINE)
    assert examples
    for there, ceiling, told in examples:
        limits = node_limits(_devices(there), None if ceiling == "none" else float(ceiling), None)
        budgets = [limit.budget_bytes / 1e9 for limit in limits.values() if limit]
        assert [float(one) for one in told.split(" and ")] == budgets, there


def _devices(words: str) -> list[GpuDevice]:
    """The cards of an example, and its RAM."""
    sizes = re.findall(r"(\d+)(?: GB( of RAM)?)?", words)
    vendors = [(HOST if of_ram else NVIDIA, int(size) * 10**9) for size, of_ram in sizes]
    return [
        GpuDevice(f"{vendor}{number}", "local", vendor, "", total)
        for number, (vendor, total) in enumerate(vendors)
    ]


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_of_a_settings_file_is_one(document: Path, tmp_path: Path) -> None:
    for number, text in enumerate(
        re.findall(r"```toml\n(.*?)```", document.read_text(), re.DOTALL)
    ):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        config.load(None, file)


def test_what_a_backend_owes_is_told_member_by_member() -> None:
    told = section(page("design.md"), "## What a backend must do")
    members = {
        re.sub(r"\(.*", "", name) for row in rows(told) for name in re.split("`?, `", row[0])
    }
    assert members == {name for name in vars(Backend) if name[0] != "_"}


def test_every_header_that_is_sent_is_told() -> None:
    told = {name for name, *_ in rows(section(page("http.md"), "## Headers"))}
    sent = re.findall(r'"(x-[a-z-]+)"', "".join(one.read_text() for one in DAEMON.glob("*.py")))
    assert {name for name in sent if "smarterrouter" in name} <= told


def test_the_table_of_errors_is_the_tree_of_errors() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    answered = {
        kind.__name__: [str(kind.status), kind.type, kind.code]
        for kind in kinds
        if issubclass(kind, errors.SmarterRouterError) and not issubclass(kind, errors.ConfigError)
    }
    assert {name: rest for name, *rest in rows(section(page("http.md"), "## Errors"))} == answered


def test_the_routes_are_those_of_the_daemon() -> None:
    listed = rows(section(page("http.md"), "## Routes"))
    told = {re.sub("{.*", "{}", name) for name, *_ in listed}
    code = "".join(path.read_text() for path in DAEMON.glob("*.py"))
    handlers = re.findall(r'@(get|post|delete)\("([^"]+)"', code)
    there = {f"{method.upper()} {re.sub('{.*', '{}', path)}" for method, path in handlers}
    assert told == there | {f"POST /v1/{endpoint.value}" for endpoint in Endpoint}
    [verbs] = [about for name, about in listed if name.startswith("POST /admin/models/")]
    assert set(VERBS) <= set(re.findall(r"`(\w+)`", f"`{verbs}"))


def test_the_terms_of_a_score_are_those_of_the_decision() -> None:
    calls = [one for one in ast.walk(_tree(decision.__file__)) if isinstance(one, ast.Call)]
    made = {
        ast.literal_eval(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "ScoreTerm"
    }
    assert {name for name, *_ in rows(section(page("routing.md"), "## The score"))} == made


def test_the_groups_of_prompts_are_those_that_are_told_apart() -> None:
    features = section(page("routing.md"), "## Features of a prompt")
    told = {
        (group, category)
        for category, groups in re.findall(r"^\| (\w+) \| (`.*`) \|$", features, re.MULTILINE)
        for group in re.findall(r"`(\w+)`", groups)
    }
    assert GROUPS.items() <= told


@pytest.mark.parametrize(
    "name", ["routing.md", "residency.md", "devices.md", "backends.md", "store.md"]
)
def test_constants_have_the_values_that_are_told(name: str) -> None:
    for constant, value in rows(section(page(name), re.findall("#+ Constants", page(name))[0])):
        module, _, attribute = constant.rpartition(".")
        assert getattr(import_module(f"smarterrouter.{module}"), attribute) == float(value)


def test_every_command_and_option_is_told_and_no_other() -> None:
    text = page("commands.md")
    root = get_command(cli)
    every = _options(root)
    assert _told(text, "smarterrouter") == every
    commands: dict[str, Any] = vars(root)["commands"]
    for name, command in commands.items():
        options = _options(command) | _of_sub_commands(command)
        options -= {"--help"}
        assert _told(text, name) == options, name
        every |= options
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert headings == ["smarterrouter", *commands, "Exit codes"]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= every


def test_every_exit_code_is_told() -> None:
    told = [code for code, *_ in rows(section(page("commands.md"), "## Exit codes"))]
    assert told == [str(code) for code in (0, FAILED, WRONG_USAGE, UNREACHABLE)]


def _told(text: str, command: str) -> set[str]:
    """The options and arguments in a command's section, what they take left out."""
    return {name.split()[0] for name, *_ in rows(section(text, f"## {command}"))}


def _options(command: Any) -> set[str]:
    """Every option of a command, and its arguments in capitals."""
    return {
        one
        for param in command.get_params(typer.Context(command))
        for one in (
            [param.name.upper()]
            if param.param_type_name == "argument"
            else [*param.opts, *param.secondary_opts]
        )
    }


def _of_sub_commands(command: Any) -> set[str]:
    """The names of a command's own commands, and their options."""
    below: dict[str, Any] = vars(command).get("commands", {})
    options = [_options(one) for one in below.values()]
    return {*below, *(name for told in options for name in told if name.startswith("-"))}


def test_what_is_kept_of_a_request_is_told() -> None:
    columns = [name for name, *_ in rows(section(page("store.md"), "## What is kept"))]
    assert columns == list(Outcome.__struct_fields__)


def test_what_is_kept_of_a_footprint_is_told() -> None:
    connection = sqlite3.connect(":memory:")
    migrate(connection)
    columns = connection.execute("SELECT name FROM pragma_table_info('footprints')").fetchall()
    connection.close()
    told = [name for name, *_ in rows(section(page("store.md"), "## Footprints"))]
    assert told == [name for (name,) in columns]


def test_the_example_of_a_profile_file_can_be_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```json\n(.*?)```", page("profile-files.md"), re.DOTALL)
    file = tmp_path / "profiles.json"
    file.write_text(example)
    assert {model.id for model in read_profiles(file).models} == {"big", "small"}


@pytest.mark.parametrize("document", ["README.md", "docs/routing.md"])
def test_what_explain_prints_is_what_is_shown(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"```json\n(.*?)```", page("profile-files.md"), re.DOTALL)
    (tmp_path / "pool.json").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.findall(
        r"\$ smarterrouter (route .*?)\n(.*?)\n```", (ROOT / document).read_text(), re.DOTALL
    )
    assert shown
    for command, output in shown:
        printed = CliRunner().invoke(cli, shlex.split(command)).stdout
        assert [line.rstrip() for line in printed.splitlines()] == output.splitlines()


def test_every_room_of_the_house_is_shown_and_no_other() -> None:
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in PACKAGE.iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.name[0] != "_")
    }
    assert {name for name, *_ in rows(section(page("design.md"), "## Rooms"))} == there


def test_the_layers_are_those_that_are_kept() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [contract, *_] = project["tool"]["importlinter"]["contracts"]
    kept = [_rooms(layer) for layer in contract["layers"]]
    shown = section(page("design.md"), "## Layers").split("```")[1].strip()
    assert [line.split(" | ") for line in shown.splitlines()] == kept


def _rooms(layer: str) -> list[str]:
    """A layer's rooms, those that are not built yet left out."""
    rooms = re.findall(r"smarterrouter\.(\w+)", layer)
    return [room for room in rooms if list(PACKAGE.glob(f"{room}*"))]


def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text())
