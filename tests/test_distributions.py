"""What `pip install` and an archive of the sources bring: all that is needed, and nothing else."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

PROJECT = Path(__file__).resolve().parents[1]
RECIPES = {path.name for path in (PROJECT / "recipes").glob("*.toml")}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built) -> zipfile.ZipFile:
    (path,) = built.glob("speechgru-*.whl")
    return zipfile.ZipFile(path)


def in_checkout(folder: str) -> set[str]:
    """The files below a folder of the project, but for what Python compiled."""
    paths = (path for path in (PROJECT / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(PROJECT).as_posix() for path in paths if "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_package_and_the_recipes(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    recipes = {f"speechgru/recipes/{name}" for name in RECIPES}
    assert names == in_checkout("speechgru") - {"speechgru/README.md"} | recipes
    assert "speechgru/py.typed" in names
    others = ("/export/web/", "/export/c/", "/serve/page/")  # JavaScript, C and pages
    own = {name for name in names if not any(folder in name for folder in others)}
    assert {PurePosixPath(name).suffix for name in own} == {
        *(".py", ".toml", ".zip", ".onnx", ".safetensors", ".md", ".typed")
    }


def test_the_wheel_says_where_the_recordings_are_from(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert any("arxiv.org/abs/1804.03209" in url for url in metadata.get_all("Project-URL"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload().startswith("# speechgru")


def test_an_installed_package_finds_its_recipes(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "from speechgru.training.recipe_files import find_recipe, recipe_names\n"
        "print(find_recipe('quickstart'), *recipe_names(), sep='\\n')"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    where, *names = done.stdout.split()
    assert Path(where) == tmp_path / "speechgru" / "recipes" / "quickstart.toml"
    assert {f"{name}.toml" for name in names} == RECIPES


def test_the_sdist_has_what_builds_and_tests_it(built):
    (path,) = built.glob("speechgru-*.tar.gz")
    with tarfile.open(path) as archive:
        members = {PurePosixPath(name) for name in archive.getnames()}
    (root,) = {member.parts[0] for member in members}
    names = {PurePosixPath(*member.parts[1:]).as_posix() for member in members}
    documents = {f".github/{path.name}" for path in (PROJECT / ".github").glob("*.md")}
    expected = in_checkout("speechgru") | in_checkout("tests") | in_checkout("recipes") | documents
    extra = {"README.md", "LICENSE", "pyproject.toml", ".gitignore", "PKG-INFO"}
    assert names == expected | extra
    assert root.startswith("speechgru-")
