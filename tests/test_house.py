"""The house rules that no single room can hold: layers, lazy imports, pins, the pages that must stay true."""

import ast
import importlib
import importlib.metadata
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from docs.reference.write_cli import reference
from onereward.cli.main import VERBS, verb_parser

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "onereward"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TORCH_FREE = ("", "terms", "seeds", "query", "store", "web", "people", "annotate", "study", "cli", "doctor")


def _distribution(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {_distribution(name): version for name, version in pairs}


EXTRAS = PYPROJECT["project"]["optional-dependencies"]
DEV = {_distribution(requirement) for requirement in EXTRAS["dev"]} - {"onereward"}
DECLARED = {
    _distribution(requirement)
    for requirement in [
        *PYPROJECT["project"]["dependencies"],
        *EXTRAS["web"],
        *EXTRAS["playground"],
        *EXTRAS["postgres"],
        *EXTRAS["quantize"],
        *EXTRAS["ray"],
    ]
} - {"onereward"}


def _modules_of(room: str) -> list[str]:
    """Dotted names of a room's modules; the package itself for an empty name."""
    if not room:
        return ["onereward"]
    if (PACKAGE / f"{room}.py").exists():
        return [f"onereward.{room}"]
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in (PACKAGE / room).rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_layers_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_stays_out(room: str) -> None:
    imports = "\n".join(f"import {name}" for name in _modules_of(room))
    heavy = "{'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", f"{imports}\nimport sys\nprint({heavy})"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "set()", run.stdout + run.stderr


def test_exports_are_lazy_and_real() -> None:
    import onereward

    assert set(onereward.__all__) == {"Dimension", "Task", "__version__", "load_editor", "load_judge"}
    for name in onereward.__all__:
        assert getattr(onereward, name) is not None
    assert onereward.__version__ == importlib.metadata.version("onereward")
    with pytest.raises(AttributeError, match="it exports Dimension, Task"):
        _ = onereward.load_painter


def test_every_import_is_declared() -> None:
    homes = importlib.metadata.packages_distributions()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for top in (
                {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"onereward", "_typeshed"}
            ):
                found = {_distribution(home) for home in homes.get(top, [top])}
                assert found & DECLARED, (
                    f"{path.relative_to(ROOT)} imports {top}, which pyproject.toml does not declare"
                )


def test_pins_cover_what_is_declared_and_leave_torchvision_out() -> None:
    pins = _pins()
    assert (DECLARED | DEV) - set(pins) == set()
    assert "torchvision" not in set(pins) | DECLARED | DEV
    assert pins["pillow"].split(".")[0] == "12"


def test_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in (PACKAGE / "weights").rglob("*") if path.is_file()) <= 40e6


def test_help_is_quick_and_lists_every_verb() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-m", "onereward", "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
    for verb, summary in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(summary)}$", run.stdout, re.MULTILINE)


def test_verbs_are_the_modules() -> None:
    modules = {path.stem.replace("_", "-") for path in (PACKAGE / "cli").glob("*.py")} - {
        "--init--",
        "main",
        "named",
        "editor-options",
        "people",
    }
    parts_of_verbs = {name for name in modules - set(VERBS) if any(name.startswith(f"{verb}-") for verb in VERBS)}
    assert modules - parts_of_verbs == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_has_help_and_an_example_that_parses(verb: str) -> None:
    module = importlib.import_module(f"onereward.cli.{verb.replace('-', '_')}")
    assert VERBS[verb] == module.HELP
    lines = module.EXAMPLE.strip().replace("\\\n", " ").splitlines()
    commands = [line for line in lines if not line.startswith("curl ")]
    assert commands
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["onereward", verb]
        verb_parser(verb).parse_args(words[2:])
    assert module.EXAMPLE.strip().splitlines()[0] in verb_parser(verb).format_help()


def test_reference_is_what_the_parsers_say() -> None:
    assert (ROOT / "docs/reference/cli.md").read_text() == reference(), "run `make docs`"


def lines_of_tree(page: str) -> list[str]:
    tree = re.search(r"```\nsrc/onereward/\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert tree
    return tree.group(1).splitlines()


def test_the_tree_of_every_file_is_the_tree() -> None:
    shown, folder = set(), ""
    for line in lines_of_tree("DEVELOPERS.md"):
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        if indent == 2:
            folder = name if name.endswith("/") else ""
        shown.add(name if indent == 2 else folder + name)
    real = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}
    real |= {
        f"{path.relative_to(PACKAGE).parts[0]}/" for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE
    }
    assert shown == real


def test_readme_has_every_folder_as_the_tree_of_every_file_has_it() -> None:
    every = [line for line in lines_of_tree("DEVELOPERS.md") if re.match(r"  \S", line)]
    shown = lines_of_tree("README.md")
    assert shown == [line for line in every if line in shown]
    assert {line for line in every if line.split()[0].endswith("/")} <= set(shown)


def test_readme_commands_parse() -> None:
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^onereward .*$", text, re.MULTILINE)]
    assert commands
    for words in commands:
        verb_parser(words[1]).parse_args(words[2:])


def test_documents_link_to_files_that_exist() -> None:
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"


def test_paper_page_names_code_and_tests_that_exist() -> None:
    for name in re.findall(r"`((?:src|tests|experiments)/[\w/.-]+)`", (ROOT / "docs/paper.md").read_text()):
        assert (ROOT / name).exists(), name
