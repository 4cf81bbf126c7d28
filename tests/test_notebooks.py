"The notebooks are the source: exporting them anew must give the library as committed."

import filecmp
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def source_cells(path: Path) -> list[str]:
    "The source of each code cell."
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def exported_module(path: Path) -> str | None:
    "The module a notebook says it exports, or None."
    found = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(source_cells(path)), re.M)
    return found and found[1]


def test_exporting_again_gives_the_same_bytes(tmp_path):
    for name in ("nbs", "pyproject.toml", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "mlt_lib").mkdir()
    shutil.copy(ROOT / "mlt_lib/__init__.py", tmp_path / "mlt_lib")  # holds the version
    export = Path(sys.executable).with_name("nbdev-export")
    subprocess.run([export], cwd=tmp_path, check=True, capture_output=True)
    fresh = {p.relative_to(tmp_path) for p in (tmp_path / "mlt_lib").rglob("*.py")}
    kept = {p.relative_to(ROOT) for p in (ROOT / "mlt_lib").rglob("*.py")}
    assert fresh == kept
    assert [p for p in fresh if not filecmp.cmp(tmp_path / p, ROOT / p, shallow=False)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_named_as_its_notebook(path):
    place = path.relative_to(ROOT / "nbs").with_suffix("")
    module = exported_module(path)
    if place.parts[0] == "jobs" and module is None or place.name == "index":
        assert module is None
    else:
        assert module == ".".join(place.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_saved_outputs_hold_no_error(path):
    cells = json.loads(path.read_text())["cells"]
    assert [o for c in cells for o in c.get("outputs", []) if o["output_type"] == "error"] == []


def test_the_readme_is_the_index_notebook():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from readme import readme
    finally:
        sys.path.pop(0)
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme()
