"README.md from nbs/index.ipynb: prose, code and what it printed, without notebook directives."

import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]


def text_of(output: nbformat.NotebookNode) -> str:
    "What an output says in plain text."
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def shown(cell: nbformat.NotebookNode) -> str:
    "A cell as Markdown: prose as it is, code fenced with its output below; directive lines and hidden cells leave."
    if cell.cell_type != "code":
        return cell.source if cell.cell_type == "markdown" else ""
    lines = cell.source.splitlines()
    if any(line.replace(" ", "").startswith("#|hide") for line in lines):
        return ""
    code = "\n".join(line for line in lines if not line.startswith("#|")).strip()
    said = "".join(text_of(output) for output in cell.outputs).rstrip()
    return f"```python\n{code}\n```" + (f"\n\n```text\n{said}\n```" if said else "")


def readme(notebook: Path = ROOT / "nbs/index.ipynb") -> str:
    "The whole README."
    cells = [shown(cell) for cell in nbformat.read(notebook, as_version=4).cells]
    return "\n\n".join(cell for cell in cells if cell) + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    sys.exit(0)
