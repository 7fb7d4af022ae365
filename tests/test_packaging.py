"""The installed artefact, not the checkout: what the wheel holds, and that it works with the sources out of sight.

Interpreters are started with `-S`, so that an editable bert4k in the test environment cannot stand in for what is missing,
and get the environment's other packages by path.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest

import bert4k

ROOT = Path(__file__).parent.parent
OUTER = ("pretrained", "tasks")
WHERE = "import bert4k, bert4k.tasks, bert4k.pretrained\nfor m in (bert4k, bert4k.tasks, bert4k.pretrained): print(m.__file__)"


def python(code: str, *path: Path, cwd: Path, safe_path: bool = True) -> list[str]:
    """The lines that `code` prints in a fresh interpreter that sees `path` and the third-party packages."""
    search = os.pathsep.join(map(str, [*path, sysconfig.get_path("purelib")]))
    command = [sys.executable, "-S", *(["-P"] if safe_path else []), "-c", code]
    run = subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().split("\n")


def sources(folder: str) -> set[str]:
    """The files of a folder of the checkout, as paths in the wheel."""
    prefix = PurePosixPath("bert4k") / folder if folder in OUTER else PurePosixPath(folder)
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(prefix / path.relative_to(ROOT / folder).as_posix()) for path in paths}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building leaves folders behind, and stale ones hide faults."""
    copy = tmp_path_factory.mktemp("checkout")
    for item in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / item, copy / item)
    for folder in ("bert4k", "examples", "tests", *OUTER):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def build(kind: str, checkout: Path, to: Path) -> Path:
    """The wheel that setuptools builds: `kind` is "wheel" or "editable"."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(to)!r})"
    python(code, cwd=checkout)
    [wheel] = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the wheel, as in site-packages."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True
    )
    return target


def test_the_wheel_holds_every_source_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == sources("bert4k") | sources("pretrained") | sources("tasks")


def test_the_wheel_puts_one_name_into_site_packages(site: Path) -> None:
    tops = {path.name for path in site.iterdir()} - {"bin"}
    assert tops == {"bert4k", f"bert4k-{bert4k.__version__}.dist-info"}
    assert (site / "bin" / "bert4k").is_file()


def test_the_metadata_is_that_of_the_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"bert4k-{bert4k.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{folder}/METADATA"))
        licence = archive.read(f"{folder}/licenses/LICENSE")
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("bert4k", bert4k.__version__, "Apache-2.0")
    extras = "ask dev hub jax linking pretrain sentencepiece torch verify words"
    assert set(metadata.get_all("Provides-Extra")) == set(extras.split())
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_demo_needs_no_extra() -> None:
    """What the library and the demo import is a dependency; what only tests import is not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = " ".join(project["dependencies"])
    assert not [name for name in ("torch", "jax", "transformers", "pytest", "opencc", "marisa", "tantivy", "sentencepiece") if name in core]
    assert all("<" in requirement for requirement in project["dependencies"]), "a dependency without an upper bound breaks on its own"


def test_the_installed_wheel_works_with_the_sources_out_of_sight(site: Path, tmp_path: Path) -> None:
    files = python(WHERE, site, cwd=tmp_path)
    assert [Path(file) for file in files] == [site / "bert4k" / part / "__init__.py" for part in ("", "tasks", "pretrained")]


def test_the_installed_data_is_that_of_the_checkout(site: Path, tmp_path: Path) -> None:
    code = """
from hashlib import sha256
from importlib.resources import as_file, files
with as_file(files("bert4k.pretrained")) as folder:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            print(sha256(path.read_bytes()).hexdigest(), path.relative_to(folder).as_posix())
"""
    assert python(code, site, cwd=tmp_path) == python(code, ROOT, cwd=tmp_path)


def test_a_checkout_shadows_the_installed_wheel_as_a_whole(site: Path, checkout: Path) -> None:
    files = python(WHERE, site, cwd=checkout, safe_path=False)
    assert [Path(file) for file in files] == [checkout / folder / "__init__.py" for folder in ("bert4k", "tasks", "pretrained")]


def test_an_editable_installation_works(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with zipfile.ZipFile(build("editable", checkout, tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    code = f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n{WHERE}"  # a path alone would not run its .pth file
    files = python(code, tmp_path / "site", cwd=tmp_path)
    assert [Path(file) for file in files] == [checkout / folder / "__init__.py" for folder in ("bert4k", "tasks", "pretrained")]
