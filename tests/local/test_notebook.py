"""The notebook runs from top to bottom, in another folder than the checkout's."""

import base64
import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from local import ROOT

NOTEBOOK = ROOT / "examples" / "notebook" / "predict.ipynb"
FILES = ["audio-1.wav", "audio-2.wav", "film.mp4", "spectrogram-1.png", "spectrogram-2.png", "timeline-2.json"]


def test_it_is_stored_without_results() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "script").symlink_to(ROOT / "script")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    kinds = [kind for data in shown for kind in ("image/png", "text/html") if kind in data]
    assert kinds == ["text/html", "image/png", "text/html", "image/png", "text/html"]
    assert base64.b64decode(shown[1]["image/png"]) == (tmp_path / "out" / "spectrogram-1.png").read_bytes()
