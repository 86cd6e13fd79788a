"""The features ``vectors`` read what was computed elsewhere, and refuse what is not clearly a track's."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mirembed import AudioError, SamplesAudio, Track
from mirembed.errors import ParameterError
from mirembed.features import resolve_features
from mirembed.registry import Registry
from mirembed_features.vectors import Vectors

VALUES = {"pop/1.wav": [1.0, 2.0, 3.0], "rock/2.wav": [4.0, 5.0, 6.5]}
FRAMES = {"pop/1.wav": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "rock/2.wav": [[7.0, 8.0]]}


def recording(*ids: str, path: str = "/music/a.wav") -> SamplesAudio:
    return SamplesAudio(np.zeros(0), 22_050, path=Path(path), ids=ids)


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def as_csv(folder: Path) -> Path:
    rows = [f"{name},{','.join(map(str, row))}" for name, row in VALUES.items()]
    return csv(folder / "v.csv", "id,a,b,c\n" + "\n".join(rows) + "\n")


def as_columns(folder: Path) -> Path:
    columns = dict(zip("abc", zip(*VALUES.values(), strict=True), strict=True))
    parquet.write_table(pa.table({"id": list(VALUES), **columns}), folder / "v.parquet")
    return folder / "v.parquet"


def as_lists(folder: Path) -> Path:
    parquet.write_table(pa.table({"embedding": list(VALUES.values()), "id": list(VALUES)}), folder / "v.parquet")
    return folder / "v.parquet"


def as_fixed_lists(folder: Path) -> Path:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(list(VALUES.values()))), 3)
    parquet.write_table(pa.table({"embedding": values, "id": list(VALUES)}), folder / "v.parquet", row_group_size=1)
    return folder / "v.parquet"


def as_npz_table(folder: Path) -> Path:
    np.savez(folder / "v.npz", id=list(VALUES), vectors=list(VALUES.values()))
    return folder / "v.npz"


def as_npz_tracks(folder: Path) -> Path:
    np.savez(folder / "v.npz", **{name: np.array(row) for name, row in VALUES.items()})
    return folder / "v.npz"


def as_folder(folder: Path, tracks: dict[str, Any] = VALUES) -> Path:
    for name, row in tracks.items():
        file = folder / "v" / f"{name.removesuffix('.wav')}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.array(row, np.float64))
    return folder / "v"


@pytest.mark.parametrize(
    "write", [as_csv, as_columns, as_lists, as_fixed_lists, as_npz_table, as_npz_tracks, as_folder]
)
def test_every_format_gives_each_track_its_vector(write: Callable[[Path], Path], tmp_path: Path) -> None:
    features = Vectors(write(tmp_path))
    assert (features.values, features.hop) == (3, None)
    for name, expected in VALUES.items():
        frames = features.extract(recording(name))
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, [expected])


def frames_as_rows(folder: Path) -> Path:
    rows = [f"{name},{x},{y}" for name, frames in FRAMES.items() for x, y in frames]
    return csv(folder / "f.csv", "id,x,y\n" + "\n".join(rows) + "\n")


def frames_as_lists(folder: Path) -> Path:
    parquet.write_table(pa.table({"id": list(FRAMES), "frames": list(FRAMES.values())}), folder / "f.parquet")
    return folder / "f.parquet"


def frames_as_npz(folder: Path) -> Path:
    np.savez(folder / "f.npz", **{name: np.array(frames) for name, frames in FRAMES.items()})
    return folder / "f.npz"


@pytest.mark.parametrize(
    "write", [frames_as_rows, frames_as_lists, frames_as_npz, lambda folder: as_folder(folder, FRAMES)]
)
def test_with_a_hop_a_track_has_frames(write: Callable[[Path], Path], tmp_path: Path) -> None:
    file = write(tmp_path)
    features = Vectors(file, hop=0.5)
    assert (features.values, features.hop) == (2, 0.5)
    for name, expected in FRAMES.items():
        np.testing.assert_array_equal(features.extract(recording(name)), expected)
    with pytest.raises(ValueError, match="hop"):
        Vectors(file)


def test_an_npz_table_may_hold_frames_of_all_tracks(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 4, 3)
    np.savez(tmp_path / "f.npz", id=np.array([7, 8]), vectors=values)
    np.testing.assert_array_equal(Vectors(tmp_path / "f.npz", hop=1).extract(recording("8")), values[1])


def test_ids_are_text_as_written(tmp_path: Path) -> None:
    features = Vectors(csv(tmp_path / "v.csv", "id,a\n007,1\n7,2\n1e3,3\n"))
    assert [features.extract(recording(name)).item() for name in ("007", "7", "1e3")] == [1, 2, 3]


def test_an_id_needs_no_audio_suffix(tmp_path: Path) -> None:
    features = Vectors(csv(tmp_path / "v.csv", "id,a\npop/x.y,1\n"))
    assert features.extract(recording("pop/x.y.mp3")).item() == 1
    with pytest.raises(AudioError, match=r"'pop/x'"):
        features.extract(recording("pop/x"))
    with pytest.raises(AudioError, match=r"/music/a\.wav"):
        features.extract(recording("pop/x.y.flac", path="/music/a.flac"))


def test_a_path_is_relative_to_the_table_or_absolute(tmp_path: Path) -> None:
    features = Vectors(csv(tmp_path / "v.csv", f"path,a\naudio/x.wav,1\n{tmp_path}/y.wav,2\n"))
    assert features.extract(recording("other", path=f"{tmp_path}/audio/x.wav")).item() == 1
    assert features.extract(recording(path=f"{tmp_path}/y.wav")).item() == 2
    with pytest.raises(AudioError, match=r"z\.wav"):
        features.extract(recording("audio/x.wav", path=f"{tmp_path}/z.wav"))


def test_names_and_stems_are_taken_only_on_request_and_once(tmp_path: Path) -> None:
    file = csv(tmp_path / "v.csv", "id,a\nx,1\ny.wav,2\n")
    with pytest.raises(AudioError):
        Vectors(file).extract(recording("pop/x.wav", path="/music/pop/x.wav"))
    assert Vectors(file, by="name").extract(recording(path="/music/y.wav")).item() == 2
    features = Vectors(file, by="stem")
    assert features.extract(recording(path="/music/pop/x.wav")).item() == 1
    assert features.extract(recording(path="/music/pop/x.wav")).item() == 1
    with pytest.raises(AudioError, match=r"/music/pop/x\.wav"):
        features.extract(recording(path="/music/rock/x.wav"))


def test_a_recording_with_two_vectors_is_ambiguous(tmp_path: Path) -> None:
    features = Vectors(csv(tmp_path / "v.csv", "id,a\nx,1\ny,2\nx.wav,3\n"))
    for ids in (("x", "y"), ("x.wav",)):
        with pytest.raises(AudioError, match="'x'"):
            features.extract(recording(*ids))


def test_a_track_that_is_missing_is_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"(?s)v\.csv.*'jazz/3\.wav'.*2.*'pop/1\.wav'"):
        Vectors(as_csv(tmp_path)).extract(recording("jazz/3.wav"))
    with pytest.raises(AudioError, match="by=path"):
        Vectors(as_csv(tmp_path)).extract(recording())


PLACES = [("pop/1.wav", "path"), ("elsewhere/x.wav", "name"), ("elsewhere/x.mp3", "stem")]


@pytest.mark.parametrize(("path", "by"), PLACES)
def test_a_track_that_is_named_in_another_way_is_found_by_it_on_advice(path: str, by: str, tmp_path: Path) -> None:
    file = csv(tmp_path / "v.csv", "id,a\npop/1.wav,1\nx.wav,2\nx,3\n")
    track = recording("0815", path=str(tmp_path / path))
    with pytest.raises(AudioError, match=f"by={by} finds"):
        Vectors(file).extract(track)
    assert Vectors(file, by=by).extract(track).shape == (1, 1)


def test_entries_that_no_track_matches_are_found(tmp_path: Path) -> None:
    vectors = Vectors(csv(tmp_path / "v.csv", "id,a\nx,1\ny,2\nz,3\n"))
    tracks = [Track(name, Path("/music") / name, "low") for name in ("y", "x.wav")]
    assert vectors.unmatched(tracks) == ["z"]
    assert vectors.unmatched([]) == ["x", "y", "z"]


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = Vectors(as_csv(tmp_path)).digest
    moved = (tmp_path / "v.csv").rename(tmp_path / "w.csv")
    assert Vectors(moved).digest == first
    moved.write_text(moved.read_text().replace("6.5", "6.6"))
    assert Vectors(moved).digest != first
    folder = as_folder(tmp_path)
    first = Vectors(folder).digest
    (folder / "pop/1.npy").rename(folder / "pop/3.npy")
    assert Vectors(folder).digest != first


def test_the_digest_names_the_frames_and_the_path_does_not(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digests.add(resolve_features(Registry.discover(), f"vectors:file={as_csv(tmp_path / name)}").digests[0])
    assert len(digests) == 1


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "v.npz", **arrays)
    return folder / "v.npz"


def folder_of(folder: Path, **arrays: Any) -> Path:
    (folder / "v").mkdir()
    for name, array in arrays.items():
        np.save(folder / "v" / name, array)
    return folder / "v"


def table(folder: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), folder / "v.parquet")
    return folder / "v.parquet"


def pickled(folder: Path) -> Path:
    (folder / "v.npz").write_bytes(pickle.dumps({"a": [1]}))
    return folder / "v.npz"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "none.csv", "none.csv"),
    "another format": (lambda f: csv(f / "v.txt", "id,a\nx,1\n"), "parquet"),
    "empty file": (lambda f: csv(f / "v.csv", ""), "empty"),
    "only a header": (lambda f: csv(f / "v.csv", "id,a\n"), "0 rows"),
    "no id": (lambda f: csv(f / "v.csv", "name,a\nx,1\n"), "name, a"),
    "id and path": (lambda f: csv(f / "v.csv", "id,path,a\nx,x,1\n"), "id, path"),
    "equal columns": (lambda f: csv(f / "v.csv", "id,a,a\nx,1,2\n"), "id, a, a"),
    "no values": (lambda f: csv(f / "v.csv", "id\nx\n"), "0 columns"),
    "ragged": (lambda f: csv(f / "v.csv", "id,a,b\nx,1,2\ny,1\n"), "v.csv"),
    "text": (lambda f: csv(f / "v.csv", "id,a\nx,loud\n"), "loud"),
    "empty cell": (lambda f: csv(f / "v.csv", "id,a\nx,\n"), "column a"),
    "repeated id": (lambda f: csv(f / "v.csv", "id,a\nx,1\nx,2\n"), "'x' has 2 rows"),
    "not UTF-8": (lambda f: (f / "v.csv").write_bytes(b"id,a\n\xff,1\n") and f / "v.csv", "v.csv"),
    "text column": (lambda f: table(f, id=["x"], a=["loud"]), "column a is string"),
    "null": (lambda f: table(f, id=["x", None], a=[1.0, 2.0]), "column id"),
    "lists of several widths": (lambda f: table(f, id=["x", "y"], v=[[1.0], [1.0, 2.0]]), "'y' has 2"),
    "lists of text": (lambda f: table(f, id=["x"], v=[["loud"]]), "string"),
    "lists with a null": (lambda f: table(f, id=["x"], v=[[1.0, None]]), "1 missing"),
    "frames of several widths": (
        lambda f: table(f, id=["x", "y"], v=[[[1.0]], [[1.0], [1.0, 2.0]]]),
        "'y' has 2 frames",
    ),
    "structs": (lambda f: table(f, id=["x"], v=[{"a": 1.0}]), "v.parquet"),
    "damaged Parquet": (lambda f: (f / "v.parquet").write_bytes(b"PAR1" * 9) and f / "v.parquet", "v.parquet"),
    "damaged NPZ": (lambda f: (f / "v.npz").write_bytes(b"PK\x03\x04" * 9) and f / "v.npz", "damaged"),
    "a pickle": (pickled, "damaged"),
    "objects in NPZ": (lambda f: npz(f, x=np.array([{}], object)), "unpickled"),
    "objects in an NPZ table": (lambda f: npz(f, id=["x"], vectors=np.array([[{}]], object)), "allow_pickle"),
    "object ids": (lambda f: npz(f, id=np.array(["x"], object), vectors=np.ones((1, 2))), "allow_pickle"),
    "fewer ids than rows": (lambda f: npz(f, id=["x"], vectors=np.ones((2, 2))), r"\[2, 2\]"),
    "empty NPZ": (lambda f: npz(f), "no arrays"),
    "several widths": (lambda f: npz(f, x=np.ones(3), y=np.ones(4)), "'x' has 3 values and 'y' has 4"),
    "complex numbers": (lambda f: npz(f, x=np.ones(3, complex)), "complex"),
    "empty folder": (lambda f: folder_of(f), "no arrays"),
    "an object in a folder": (lambda f: folder_of(f, x=np.array([None])), "unpickled"),
    "several widths in a folder": (lambda f: folder_of(f, x=np.ones(3), y=np.ones(4)), "'y' has 4"),
    "no frames": (lambda f: folder_of(f, x=np.ones((0, 4))), "'x'"),
    "empty vector": (lambda f: folder_of(f, x=np.ones(0)), "'x'"),
    "a scalar": (lambda f: folder_of(f, x=np.float64(1)), "'x'"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(what: str, tmp_path: Path) -> None:
    make, fact = BAD[what]
    file = make(tmp_path)
    with pytest.raises(ParameterError, match=fact) as caught:
        resolve_features(Registry.discover(), f"vectors:file={file}")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_an_array_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, x=np.ones(2))
    (folder / "y.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"y\.npy"):
        Vectors(folder)


def test_a_truncated_array_is_a_failure_of_its_track(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, x=np.ones(2), y=np.ones(2))
    (folder / "y.npy").write_bytes((folder / "y.npy").read_bytes()[:-3])
    features = Vectors(folder)
    assert features.extract(recording("x")).tolist() == [[1, 1]]
    with pytest.raises(AudioError, match="'y'"):
        features.extract(recording("y"))


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
def test_a_value_that_is_not_finite_is_a_failure_of_its_track(value: str, tmp_path: Path) -> None:
    features = Vectors(csv(tmp_path / "v.csv", f"id,a\nx,1\ny,{value}\n"))
    assert features.extract(recording("x")).item() == 1
    with pytest.raises(AudioError, match="'y'"):
        features.extract(recording("y"))


@pytest.mark.parametrize("hop", ["0", "-1", "nan", "4000"])
def test_a_hop_out_of_range_is_refused(hop: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="hop"):
        resolve_features(Registry.discover(), f"vectors:file={as_csv(tmp_path)},hop={hop}")
