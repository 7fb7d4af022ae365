"""The shape of the project: imports run one way, nothing heavy or unsafe is imported, every folder is packaged."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bert4k

ROOT = Path(__file__).parent.parent

# The layout of the design, top to bottom: each part imports only parts above it (and, within a folder, never in a circle).
ORDER = """
    errors reading chinese quiet progress transfer archives families config backend beside memory masks canvas scores pictures positions
    layers gated_attention disentangled convolution parts blocks model encoder_decoder checkpoints nearest tokenizers decoding
    attention_maps losses structured training pretraining telling answering retrieval pretrained surgery assembly download hub fidelity
    recipe tuning finetuning linking reading_comprehension tasks asking commands cli __main__
""".split()
# These use the library as its users do, by its public names.
AT_THE_TOP = {"tasks", "asking", "commands", "cli", "__main__"}
# Name tables are data about checkpoints; they know no model.
PRETRAINED_MAY_IMPORT = {"errors", "config", "families", "checkpoints", "pretrained"}

HEAVY = {"keras", "tensorflow", "jax", "torch", "transformers", "matplotlib"}
UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load"}


def modules() -> dict[str, Path]:
    """Every module of the installed library by its dotted name without `bert4k.`, and its file. Not `bert4k/__init__.py`."""
    found = {}
    for folder, prefix in (("bert4k", ()), ("pretrained", ("pretrained",)), ("tasks", ("tasks",))):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = prefix + path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name:
                found[name] = path
    return found


MODULES = modules()


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def nearest(dotted: str) -> str:
    """The module that `dotted` is or is a name of: both `masks` and `masks.causal` are in `masks`."""
    while dotted and dotted not in MODULES and dotted not in ORDER:
        dotted = dotted.rpartition(".")[0]
    return dotted


def imports(name: str, syntax: ast.AST) -> Iterator[str]:
    """Every module of bert4k that module `name` imports anywhere in its text, functions and type-checking blocks included.

    `""` stands for bert4k itself, whose public names come from everywhere.
    """
    is_package = name in MODULES and MODULES[name].name == "__init__.py"
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (nearest(alias.name.partition(".")[2]) for alias in node.names if alias.name.partition(".")[0] == "bert4k")
        elif isinstance(node, ast.ImportFrom):
            source = (node.module or "").split(".") if node.module else []
            if node.level:
                package = ["bert4k", *name.split(".")]
                source = package[: len(package) - node.level + is_package] + source
            if source[:1] == ["bert4k"]:
                yield from (nearest(".".join([*source[1:], alias.name])) for alias in node.names)


def test_the_import_walk_sees_every_form() -> None:
    text = """
import os, bert4k.masks
from bert4k import config
from bert4k.layers import Norm
from .errors import Error
from . import hub
def late():
    import bert4k
    from bert4k import load
"""
    assert list(imports("model", ast.parse(text))) == ["masks", "config", "layers", "errors", "hub", "", ""]


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    part = name.partition(".")[0]
    assert part in ORDER, f"{MODULES[name]} has no place in the layout: add {part!r} to ORDER where it belongs"
    for imported in imports(name, tree(name)):
        if not imported and part in AT_THE_TOP:
            continue
        assert imported, f"{name} imports from `bert4k` itself; import from the module that defines the name"
        other = imported.partition(".")[0]
        assert ORDER.index(other) <= ORDER.index(part), f"{name} imports {imported}, which stands below it in the layout"
        assert part != "pretrained" or other in PRETRAINED_MAY_IMPORT, f"{name} is data and may not import {imported}"


def test_no_circle() -> None:
    graph = {name: {other for other in imports(name, tree(name)) if other != name} for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("name", MODULES)
def test_nothing_unsafe(name: str) -> None:
    """No pickle, no evaluated text, and no `splitlines`, which also splits at U+2028 and so shifts a vocabulary's ids."""
    for node in ast.walk(tree(name)):
        where = f"{MODULES[name]}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not UNSAFE_MODULES & {module.partition(".")[0] for module in imported}, f"{where} imports a pickle"
        if isinstance(node, ast.Attribute):
            assert node.attr != "splitlines", f"{where} splits at more than line ends; use split('\\n')"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in UNSAFE_CALLS, f"{where} calls {called}"
            for keyword in node.keywords:
                allowed = keyword.arg != "allow_pickle" or (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                assert allowed, f"{where} allows a pickle"


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    report = "\nimport sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.strip().rpartition("\n")[2].split())


def test_import_bert4k_loads_nothing_else() -> None:
    assert not loaded_by("import bert4k") & (HEAVY | {"numpy", "rich", "tokenizers", "safetensors"})


@pytest.mark.parametrize("name", ["errors", "config", "checkpoints", "pretrained", "tokenizers", "cli"])
def test_light_modules_load_nothing_heavy(name: str) -> None:
    """Reading a checkpoint or a vocabulary needs no backend, and `bert4k --help` does not wait for one."""
    if name not in MODULES:
        pytest.skip(f"bert4k.{name} is not written yet")
    assert not loaded_by(f"import bert4k.{name}") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    if "cli" not in MODULES:
        pytest.skip("bert4k.cli is not written yet")
    code = f"""
import runpy, sys
sys.argv = ["bert4k", *{arguments!r}]
try:
    runpy.run_module("bert4k", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("name", bert4k._HOME)
def test_every_public_name_exists(name: str) -> None:
    if bert4k._HOME[name].removeprefix("bert4k.") not in MODULES:
        pytest.skip(f"{bert4k._HOME[name]} is not written yet")
    assert getattr(bert4k, name).__doc__, f"bert4k.{name} has no docstring"
    assert name in dir(bert4k)


def test_type_checkers_see_the_same_public_names() -> None:
    syntax = ast.parse((ROOT / "bert4k" / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in syntax.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    written = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert written == bert4k._HOME | dict.fromkeys(bert4k._SUBMODULES, "bert4k")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'bert4k' has no attribute 'lod'"):
        bert4k.lod  # noqa: B018


def test_a_checkout_finds_its_outer_folders() -> None:
    """Plain `python` in the root of a checkout, with no installation that could help out (-S: no site-packages)."""
    code = "import bert4k.tasks; print(bert4k.tasks.__file__)"
    run = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == ROOT / "tasks" / "__init__.py"


def test_every_folder_is_packaged() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    outside = {f"bert4k.{folder}": folder for folder in ("pretrained", "tasks")}
    assert setuptools["package-dir"] == outside
    folders = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in {"bert4k": "bert4k", **outside}.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sorted(setuptools["packages"]) == sorted(folders)
