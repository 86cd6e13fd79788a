"""Everything that the program says, in one snapshot: its help, and its answers to all kinds of mistakes.

The other tests hold facts (a value, a flag, an exit code); the sentences are in ``messages.txt``. After a change to a
message, write the snapshot again with ``make messages``, and read its diff.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from conftest import write_tones
from small_runs import write_run
from small_store import workers_run

from mirembed.cli.main import app, main

SNAPSHOT = Path(__file__).with_name("messages.txt")
WRITE = "MIREMBED_WRITE_MESSAGES"
"""The environment variable with which the snapshot is written instead of compared."""

TABLES = {
    "faulty.csv": b"path;height\nlow/low-0;1,234\nlow/low-1;loud\nlow/low-2;3\nlow/low-2;4\n\n;5\nhigh/high-0;1;2\n",
    "dates.csv": b"path;height\nlow/low-0;03.May\nlow/low-1;3,5\n",
    "quotes.csv": b'path,label\nlow/low-0,"a\nlow/low-1,b\n',
    "sheet.xlsx": b"PK\x03\x04" + bytes(20),
    "genres.csv": b"Path,label,Genre,Artist\n"
    b"C:\\tones\\low\\low-0.wav,Caf\xe9,House,A\n./low/low-1,NA,House,\nLOW/low-2.wav,caf\xe9\nmiddle/lost,Trax,Jazz,B\n",
}
"""Tables as people have them, with faults and without."""

COMMANDS = r"""
# Usage
mirembed nonsense
mirembed fit --nonsense
mirembed fit --epochs many
mirembed fit --epochs 0
mirembed fit --seed -1
mirembed extract --jobs 0
mirembed extract --limit 0
mirembed evaluate --test-size 2
mirembed evaluate --train-size 0
mirembed evaluate --train-size half
mirembed evaluate --train-size '0.5|0.5'
mirembed datasets show emotify:threshold=0.5
mirembed datasets show emotify:task=tags,threshold=2
mirembed datasets show folder:tags=mood
mirembed datasets show folder:labels=t.csv,tags=mood,label=genre

# Specs and parameters
mirembed fit --similarity 'r b f'
mirembed fit --similarity rbf:
mirembed fit --similarity rbf:gamma=1,gamma=2
mirembed fit --similarity rbf:color=red
mirembed fit --similarity rbf:gamma=big
mirembed fit --similarity rbf:gamma=-1
mirembed fit --similarity polynomial:d=0
mirembed fit --similarity rfb
mirembed fit --similarity zzz
mirembed fit --similarity other/rbf
mirembed fit --label-similarity zzz
mirembed fit --learner svm:C=0
mirembed fit --learner svm:gamma=-1
mirembed fit --learner svm:gamma=scale,kernel=cosine
mirembed fit --learner svm:kernel=zzz
mirembed fit --learner zzz

# Choices
mirembed fit --approach zzz
mirembed fit --approach rbf
mirembed fit --approach nn --approach nn
mirembed fit --normalize fold
mirembed fit --device tpu
mirembed fit --engine fast
mirembed fit --exclude everything
mirembed fit --folds grouped
mirembed fit --select learner.C=1|2 --folds zzz
mirembed fit --name a/b
mirembed fit --from nothing
mirembed fit --dataset gtzan
mirembed fit --dataset zzz
mirembed fit --store nowhere

# Extraction
mirembed extract --dataset zzz
mirembed extract --dataset gtzan
mirembed extract --dataset gtzan --audio nowhere
mirembed extract --dataset gtzan --audio tones
mirembed extract --dataset folder --audio empty
mirembed extract --dataset folder --audio notes.txt
mirembed extract --dataset folder:labels=nowhere.csv --audio tones
mirembed extract --dataset library --audio empty
mirembed extract --dataset library --audio tones
mirembed extract --dataset library:label=tempo --audio tones
mirembed extract --dataset library:playlists=lists --audio tones
mirembed extract --dataset library:label=playlists,playlists=lists --audio tones
mirembed extract --dataset library:min_tracks=0 --audio tones
mirembed extract --dataset folder:labels=faulty.csv,target=height --audio tones
mirembed extract --dataset folder:labels=dates.csv,target=height --audio tones
mirembed extract --dataset folder:labels=quotes.csv --audio tones
mirembed extract --dataset folder:labels=sheet.xlsx --audio tones
mirembed datasets check folder:labels=genres.csv,group=artist --audio tones
mirembed extract --dataset folder --audio tones --backend zzz
mirembed extract --dataset folder --audio tones --executor zzz
mirembed extract --dataset folder --audio tones --scheduler tcp://nowhere:1
mirembed extract --dataset folder --audio tones --max-failures many
mirembed extract --dataset folder --audio tones --timeout 0
mirembed extract --dataset folder --audio damaged --store other-store
mirembed extract --dataset folder --audio tones --store notes.txt

# Evaluation
mirembed evaluate --cv 1
mirembed evaluate --cv 100
mirembed evaluate --folds zzz
mirembed evaluate --splits 0
mirembed evaluate --config nowhere.toml
mirembed evaluate --config broken.toml
mirembed evaluate --config unknown-key.toml
mirembed evaluate --config wrong-type.toml
mirembed evaluate --preset zzz
mirembed evaluate --checkpoint-every -1
mirembed evaluate --approach zzz
mirembed evaluate --learner zzz
mirembed evaluate --against zzz
mirembed evaluate --features logmell
mirembed evaluate --features logmel:bands=20
mirembed evaluate --features logmel+logmel
mirembed evaluate --features logmel --features logmel
mirembed evaluate --network gur
mirembed evaluate --network gru:hidden=0
mirembed evaluate --approach stats --network mlp
mirembed evaluate --approach chance --features logmel:bands=20
mirembed evaluate --cv 3 --select batch=8|16
mirembed evaluate --cv 3 --select learner.C=1
mirembed evaluate --cv 3 --select learner.D=1|2
mirembed evaluate --cv 3 --select learner.C=1|-1
mirembed evaluate --cv 3 --approach chance --select learner.C=1|2
mirembed evaluate --cv 3 --approach stats --select epoch --checkpoint-every 1
mirembed evaluate --cv 3 --select epoch --epochs 5
mirembed evaluate --cv 3 --select learner.C=1|2 --inner-cv 50
mirembed evaluate --cv 3 --inner-cv 5
mirembed evaluate --cv 3 --optimizer adamm
mirembed evaluate --cv 3 --optimizer adam:lr=big
mirembed evaluate --excerpt 0
mirembed evaluate --from nothing
mirembed evaluate --from folder-rbf-sl --epochs 3
mirembed evaluate --from folder-rbf-sl --from folder-rbf-sl

# Runs
mirembed compare
mirembed compare nothing
mirembed compare first frist
mirembed compare first --approach zzz
mirembed compare first --against zzz
mirembed compare first first
mirembed compare first --top -1
mirembed compare unfinished
mirembed compare damaged
mirembed report nothing

# Models
mirembed embed nothing tones
mirembed embed folder-rbf-sl nowhere
mirembed embed folder-rbf-sl empty
mirembed embed folder-rbf-sl notes.txt
mirembed predict nothing tones
mirembed predict damaged-model tones
mirembed predict folder-rbf-sl damaged
mirembed predict folder-rbf-sl tones/low/low-0.wav --out nowhere/predictions.csv
mirembed predict folder-rbf-sl tones/low/low-0.wav --out predictions.txt
mirembed predict folder-rbf-sl tones/low/low-0.wav --out genres.csv
mirembed predict folder-rbf-sl tones/low/low-0.wav --bom
mirembed embed folder-rbf-sl tones/low/low-0.wav --bom --out e.parquet
mirembed similar folder-rbf-sl nothing
mirembed map folder-rbf-sl --out map.csv
mirembed map folder-rbf-sl --out nowhere/map.html
mirembed map folder-rbf-sl --out map.html --method tsne
mirembed map nothing --out map.html
mirembed similar folder-rbf-sl low/low-0.wav --top 0
mirembed similar folder-rbf-sl low/low-0.wav --in nothing

# Libraries: updates, neighbors and playlists
mirembed update nothing
mirembed update folder-rbf-sl --keep frames
mirembed update folder-rbf-sl --audio nowhere
mirembed update folder-rbf-sl --dataset zzz
mirembed similar folder-rbf-sl low
mirembed similar folder-rbf-sl low/low-0.wav --exclude nothing
mirembed similar folder-rbf-sl low/low-0.wav --out neighbors.txt
mirembed playlist folder-rbf-sl
mirembed playlist folder-rbf-sl --seed nothing
mirembed playlist folder-rbf-sl --seed low/low-0.wav --length 0
mirembed playlist folder-rbf-sl --seed low/low-0.wav --from low/low-1.wav
mirembed playlist folder-rbf-sl --seed low/low-0.wav --from low/low-1.wav --to high/high-0.wav
mirembed playlist folder-rbf-sl --seed low/low-0.wav --out list.xspf
mirembed playlist folder-rbf-sl --seed low/low-0.wav --paths relative
mirembed playlist folder-rbf-sl --seed low/low-0.wav --out list.m3u8 --paths sideways
mirembed playlist folder-rbf-sl --extend nowhere.m3u8
mirembed playlist folder-rbf-sl --extend notes.txt
mirembed playlist folder-rbf-sl --extend dead.m3u8

# Libraries: duplicates and file tags
mirembed duplicates nothing
mirembed duplicates folder-rbf-sl
mirembed duplicates folder-rbf-sl --out duplicates.txt
mirembed tag
mirembed tag nothing
mirembed tag folder-rbf-sl nowhere
mirembed tag folder-rbf-sl --add --overwrite
mirembed tag folder-rbf-sl --field artist
mirembed tag folder-rbf-sl --field ?
mirembed tag folder-rbf-sl --min-score 2
mirembed tag folder-rbf-sl tones/low/low-0.wav --min-score 0
mirembed tag folder-rbf-sl tones/low/low-0.wav --min-score 0 --write --undo-file undo.jsonl
mirembed tag folder-rbf-sl tones/low/low-0.wav --min-score 0 --add --write --undo-file undo.jsonl
mirembed tag --undo undo.jsonl
mirembed tag --undo notes.txt
mirembed tag --undo nowhere.jsonl

# Datasets
mirembed datasets show zzz
mirembed datasets show folder
mirembed datasets show library
mirembed datasets check zzz
mirembed datasets check folder --audio empty
mirembed datasets check folder --audio tones
mirembed datasets fetch zzz
mirembed datasets fetch folder
mirembed datasets fetch gtzan --max-size many

# Plugins
mirembed plugins --hook kernel
mirembed plugins show rfb
mirembed plugins show rbf
mirembed plugins check rfb
mirembed plugins check folder
mirembed plugins check folder --audio empty
mirembed plugins new kernel x
mirembed plugins new similarity rbf
mirembed plugins new learner 'My learner'
mirembed plugins new learner mirembed-x
mirembed plugins new learner similarities
mirembed --no-plugin zzz plugins
mirembed --plugins-dir nowhere plugins
mirembed --plugins-dir broken-plugins plugins --hook dataset
mirembed --plugins-dir broken-plugins fit --similarity lopsided --epochs 1
mirembed --plugins-dir broken-plugins plugins check lopsided
mirembed --plugins-dir broken-plugins --no-plugin typo --no-plugin failing fit --similarity crashing --epochs 1

# The store
mirembed store info --store nowhere
mirembed store verify --store nowhere
mirembed store verify
mirembed store info --store damaged-store
mirembed store verify --store damaged-store
mirembed store compact --store damaged-store
mirembed store rm
mirembed store rm zzz
mirembed store rm model:zzz
mirembed store rm run:zzz
mirembed store rm dataset:zzz
mirembed store rm features:zzz
mirembed store rm model:folder-rbf-sl cache
mirembed store rm unused
mirembed store rm unused --store damaged-store
mirembed fit --features zzz
mirembed fit --features logmel:bands=60
mirembed extract --features logmel+logmel:hop=0.01
"""
"""What is run, in this order and in the folder of `prepared`, where nothing takes more than a moment."""

PLUGINS = {
    "typo.py": "from mirembed import hookimpl\n@hookimpl\ndef mirembed_register_learner(register): ...\n",
    "failing.py": "import no_such_module\n",
    "similarities.py": """
from mirembed import hookimpl

class Lopsided:
    def __call__(self, x):
        return x @ x.mT + x.sum(dim=-1, keepdim=True)

class Crashing:
    def __call__(self, x):
        raise RuntimeError("no graphics card")

@hookimpl
def mirembed_register_similarities(register):
    register("lopsided", Lopsided)
    register("crashing", Crashing)
""",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """Run a command in this process; return what it prints, with what differs between machines replaced."""
    for name in [name for name in os.environ if name.startswith("MIREMBED_") and name != WRITE]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.chdir(tmp_path)

    def call(command: str) -> str:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            main()
        printed = "".join(capfd.readouterr())
        lines = [plain(line) for line in printed.replace(str(tmp_path), "FOLDER").splitlines()]
        return "\n".join([f"$ {command}", *filter(None, lines), f"[exit code {end.value.code}]"])

    with workers_run():
        yield call


def plain(line: str) -> str:
    """Return a line without borders, and without what differs between machines and terminals."""
    if line.startswith("engine: "):
        return ""
    line = re.sub(r"^(Usage: |Try ').*?mirembed\b", r"\1mirembed", line)
    line = re.sub(r"\b(loss )[\d.]+|\b\d+( [KMG]iB)\b", r"\1N\2", line)
    if re.fullmatch(r"[\s─━│┃╭╮╰╯┏┓┗┛┡┩├┤┌┐└┘┬┴┼╇╈┳┻╞╪╡═-]*(Error)?[\s─╮]*", line):
        return ""
    cells = [cell.strip() for cell in re.split("[│┃]", line)]
    line = " | ".join(filter(None, cells)) if len(cells) > 1 else line.rstrip()
    line = re.sub(r"(\| genre \|.* )0\.\d\d$", r"\1P", line)
    line = re.sub(r"(/tmp|FOLDER)\S*/mirembed-\w{8}", "TEMPORARY", line)
    line = re.sub(r"\b\d+(\.\d+)? (s|ms|min|h)\b", r"N \2", line)
    line = re.sub(r"\b[0-9a-f]{8,}\b", "HASH", line)
    return re.sub(r"\bsite-packages/\S+|\S*/plugins/mirembed_\S+", "FILE", line)


def prepare(folder: Path, run: Callable[[str], str]) -> None:
    """Write what the commands need: music, a store with a model and runs, and damaged copies of all of them."""
    write_tones(folder / "tones", n_tracks=3, seconds=1.0)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no music\n")
    shutil.copytree(folder / "tones" / "low", folder / "damaged" / "low")
    (folder / "damaged" / "low" / "broken.wav").write_bytes(b"RIFF")
    (folder / "damaged" / "low" / "empty.mp3").touch()
    for name, text in {"broken": "epochs = ", "unknown-key": "epoch = 3", "wrong-type": 'epochs = "many"'}.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "broken-plugins").mkdir()
    for name, text in PLUGINS.items():
        (folder / "broken-plugins" / name).write_text(text)
    for name, table in TABLES.items():
        (folder / name).write_bytes(table)
    (folder / "dead.m3u8").write_text("#EXTM3U\nmoved/away.mp3\nhttp://radio.example/stream\n")
    for command in ("mirembed extract --dataset folder --audio tones", "mirembed fit --epochs 1"):
        assert "[exit code 0]" in (printed := run(command)), printed
    store = folder / "mirembed-store"
    shutil.copytree(store, folder / "damaged-store")
    for shard in (folder / "damaged-store").rglob("*.parquet"):
        shard.write_bytes(shard.read_bytes()[:100])
    write_run(store / "runs" / "first")
    write_run(store / "runs" / "unfinished", finished=None)
    (write_run(store / "runs" / "damaged") / "predictions.parquet").write_bytes(b"PAR1")
    shutil.copytree(store / "models" / "folder-rbf-sl", store / "models" / "damaged-model")
    (store / "models" / "damaged-model" / "model.json").write_text("{")


def help_texts(command: typer.core.TyperCommand, name: str) -> Iterator[str]:
    """Yield the help of a command and of those below it, free of the layout that a terminal gives it."""
    lines = [f"$ {name} --help", " ".join((command.help or "").split())]
    for parameter in command.params:
        flags = "/".join([*parameter.opts, *parameter.secondary_opts])
        names = parameter.metavar or "" if parameter.param_type_name == "option" else f"({parameter.metavar})"
        lines.append(f"{flags} {names}: {' '.join((parameter.help or '').split())}".replace(" :", ":"))
    yield "\n".join(lines).replace("\\[", "[")  # which is how the markup of Rich writes a bracket
    for below, subcommand in getattr(command, "commands", {}).items():
        yield from help_texts(subcommand, f"{name} {below}")


@pytest.mark.slow
def test_the_program_says_what_the_snapshot_says(tmp_path, run):
    prepare(tmp_path, run)
    parts = [line if line.startswith("#") else run(line) for line in COMMANDS.splitlines() if line]
    parts += ["# Help", *help_texts(typer.main.get_command(app), "mirembed")]
    text = "\n\n".join(parts) + "\n"
    if os.environ.get(WRITE):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert [part for part in parts if "Traceback" in part or "bug in mirembed" in part] == []
    before = SNAPSHOT.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), text.splitlines(), "messages.txt", "now", lineterm="", n=1)
    assert text == before, "\n".join(["run `make messages` if these changes are intended:", *changes])


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__]
    sys.exit(subprocess.run(command, env={**os.environ, WRITE: "1"}, check=False).returncode)
