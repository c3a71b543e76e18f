"""What recipes/guides/serving.md says of services: the unit is valid, the packages are enough."""

import re
import shutil
import subprocess
import sys
from importlib import metadata

import httpx
import pytest
from documents import sections

PAGE = "recipes/guides/serving.md"
(SECTION,) = (section for section in sections(PAGE) if section.title == "As a service")
BLOCKS = dict(SECTION.blocks)


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "speechgru"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "speechgru.service"
    unit.write_text(BLOCKS["ini"].replace("/opt/speechgru/bin/speechgru", str(program)))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "speechgru.service" not in done.stderr


def packages():
    """Those that the Containerfile installs."""
    (line,) = re.findall(r"pip install --no-cache-dir (numpy.*?)\nCOPY", BLOCKS["dockerfile"], re.S)
    return line.replace("\\\n", " ").split()


@pytest.mark.slow
def test_a_server_needs_no_other_packages_than_the_containers(tmp_path):
    """Every installed package that neither is listed nor is needed by those is hidden."""
    needed, waiting = set(), packages()
    while waiting:
        name = re.match(r"[\w.-]+", waiting.pop())[0].lower().replace("_", "-")
        if name in needed:
            continue
        needed.add(name)
        try:
            waiting += [r for r in metadata.requires(name) or [] if "extra ==" not in r]
        except metadata.PackageNotFoundError:
            continue  # for other systems or versions
    by_module = metadata.packages_distributions()
    hidden = {
        module
        for module, owners in by_module.items()
        if not {owner.lower().replace("_", "-") for owner in owners} & {*needed, "speechgru", "pip"}
    }
    assert "torch" in hidden
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from speechgru.cli import entry_point
entry_point()
"""
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--token-file", "token"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        line = server.stderr.readline()
        assert " on http" in line
        url = line.split(" on ")[1].strip()
        bearer = {"Authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
        assert httpx.get(f"{url}models", headers=bearer).json()[0]["name"] == "commands-12"
        server.terminate()
        assert server.wait(60) == 0
