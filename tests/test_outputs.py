"""A file or folder that cannot be written is refused before anything else is looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirembed.errors import ModelError, SpecError, StoreWriteError
from mirembed.fit.names import check_name
from mirembed.runs.folder import MANIFEST
from mirembed.store.files import check_output, write_json, writing

UNWRITABLE = Path("/sys/kernel")
"""A folder in which nobody can make a file."""

FILES = {
    "embed m music --out": ".csv",
    "predict m music --out": ".parquet",
    "similar m seed --out": ".csv",
    "similar m seed --top 3 --out": ".m3u8",
    "playlist m --seed seed --out": ".m3u",
    "duplicates m --out": ".csv",
    "map m --out": ".html",
    "export m --onnx": ".onnx",
    "export m --card": ".md",
    "tag m --out": ".csv",
    "tag m --write --undo-file": ".jsonl",
}
"""Commands that write a file, and its suffix. There is no model, no store and no music."""

FOLDERS = [
    "report run --out",
    "extract --dataset folder --audio music --store",
    "update m --audio music --store",
    "fit --store",
    "evaluate --store",
    "datasets fetch gtzan --audio",
    "plugins new dataset bird-songs --in",
]
"""Commands that write a folder."""


def bad_files(suffix: str) -> list[str]:
    Path("folder" + suffix).mkdir()
    Path("taken" + suffix).touch()
    Path("link" + suffix).symlink_to("nowhere" + suffix)
    Path("file").touch()
    names = [name + suffix for name in ("folder", "taken", "link", "missing/x", "file/x", "x" * 300)]
    return [*names, *([str(UNWRITABLE / f"x{suffix}")] if UNWRITABLE.is_dir() else [])]


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_first(mirembed, monkeypatch, command):
    monkeypatch.chdir(mirembed.folder)
    for name in bad_files(FILES[command]):
        before = sorted(mirembed.folder.rglob("*"))
        refused = mirembed(*command.split(), name, code=1)
        assert refused.stdout == ""
        assert len(refused.stderr.splitlines()) == 1
        assert name in refused.stderr
        assert sorted(mirembed.folder.rglob("*")) == before


def test_force_replaces_files_only(tmp_path):
    taken, pipe = tmp_path / "taken.csv", tmp_path / "pipe.csv"
    taken.touch()
    os.mkfifo(pipe)
    check_output(taken, force=True)
    for path in (pipe, tmp_path):
        with pytest.raises(StoreWriteError, match=str(path)):
            check_output(path, force=True)


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_first(mirembed, monkeypatch, command):
    monkeypatch.chdir(mirembed.folder)
    Path("file").touch()
    Path("run").mkdir()
    (Path("run") / MANIFEST).touch()
    for name in ("file/x", "x" * 300, *([str(UNWRITABLE / "x")] if UNWRITABLE.is_dir() else [])):
        before = sorted(mirembed.folder.rglob("*"))
        refused = mirembed(*command.split(), name, code=1)
        assert refused.stdout == ""
        assert name in refused.stderr.splitlines()[-1]
        assert "--" in refused.stderr.splitlines()[-1]
        assert sorted(mirembed.folder.rglob("*")) == before


def test_a_report_does_not_replace_other_files(mirembed, monkeypatch):
    monkeypatch.chdir(mirembed.folder)
    write_json(Path("run") / MANIFEST, {})
    write_json(Path("notes") / "mine.json", {})
    Path("file").touch()
    for name in ("notes", "file"):
        assert name in mirembed("report", "run", "--out", name, code=1).stderr
    assert (Path("notes") / "mine.json").exists()


def test_an_undo_file_is_only_written_with_tags(mirembed):
    assert "--write" in mirembed("tag", "m", "--undo-file", "x.jsonl", code=1).stderr


def test_the_name_of_a_model_is_checked_before_anything_is_read(tmp_path):
    (tmp_path / "taken").mkdir()
    check_name(tmp_path, None, ["nn"])
    check_name(tmp_path, "free", ["nn"])
    check_name(tmp_path, "taken", ["nn", "rbf-sl"])  # taken-nn and taken-rbf-sl
    with pytest.raises(ModelError, match="taken"):
        check_name(tmp_path, "taken", ["nn"])
    with pytest.raises(SpecError, match="--name"):
        check_name(tmp_path, "../elsewhere", ["nn"])
    write_json(tmp_path / ".checkpoints" / "digest.json", {"names": {"nn": "taken"}, "configuration": {}})
    check_name(tmp_path, "taken", ["nn"])  # an interrupted fit has saved it, perhaps this one


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        1 / 0  # noqa: B018
    for name in ("old", "new"):
        with writing(tmp_path / "folder", replace_folder=True) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]
    with pytest.raises(StoreWriteError), writing(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]
