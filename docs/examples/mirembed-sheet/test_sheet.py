import csv

import pytest
import typer
from typer.testing import CliRunner

from mirembed import MirembedError
from mirembed_sheet import mirembed_register_commands

APP = typer.Typer()
mirembed_register_commands(APP)


@pytest.fixture
def music(tmp_path):
    for name in ("jazz/one.wav", "rock/two.mp3", "notes.txt"):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "music"


def test_every_audio_file_gets_a_row_with_the_name_of_its_folder(music, tmp_path):
    out = tmp_path / "labels.csv"
    done = CliRunner().invoke(APP, [str(music), "--out", str(out)])
    assert done.exit_code == 0
    assert "2 rows" in done.output
    with out.open(newline="") as table:
        assert list(csv.DictReader(table)) == [
            {"file": "jazz/one.wav", "label": "jazz"},
            {"file": "rock/two.mp3", "label": "rock"},
        ]


@pytest.mark.parametrize(("folder", "fact"), [("music", "already exists"), ("nowhere", "nowhere")])
def test_what_cannot_be_done_is_an_error(music, tmp_path, folder, fact):
    (tmp_path / "labels.csv").write_text("kept")
    done = CliRunner().invoke(APP, [str(tmp_path / folder), "--out", str(tmp_path / "labels.csv")])
    assert isinstance(done.exception, MirembedError)
    assert fact in str(done.exception)
    assert (tmp_path / "labels.csv").read_text() == "kept"
