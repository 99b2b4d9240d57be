"""Files that are not whole, not recordings, or still growing: everything that is there is found, nothing crashes."""

from __future__ import annotations

import io
import random
import struct
import threading
from pathlib import Path

import pytest
from fakes import hello, step
from listener import eventually
from mcap.reader import make_reader
from mcap.writer import Writer
from recordings import begun

from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import RecordingError, recording

from .conftest import encoded, messages


@pytest.fixture(scope="module")
def whole() -> bytes:
    return encoded(messages(1100))  # one index on the way, one at the end


def steps_before(data: bytes) -> list[tuple[int, int]]:
    """(byte, steps) for each chunk of steps: what is whole before that byte."""
    reader = make_reader(io.BytesIO(data))
    summary = reader.get_summary()
    assert summary is not None
    topics = {channel.topic: number for number, channel in summary.channels.items()}
    found, count = [], 0
    for index in sorted(summary.chunk_indexes, key=lambda index: index.chunk_start_offset):
        if topics["step"] in index.message_index_offsets:
            place = index.message_index_offsets[topics["step"]]
            count += struct.unpack_from("<I", data, place + 11)[0] // 16
            found.append((index.chunk_start_offset + index.chunk_length, count))
    return found


def test_cut_at_any_byte_everything_before_the_cut_is_there(whole: bytes, tmp_path: Path) -> None:
    path, wanted = tmp_path / "run.mcap", steps_before(whole)
    assert wanted[-1][1] == 1100
    generator = random.Random(0)
    cuts = [*range(8, 60, 5), *(generator.randrange(60, len(whole)) for _ in range(30)), len(whole) - 1]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with open_recording(path) as torn:
            most = max((count for end, count in wanted if end <= cut), default=0)
            assert len(torn.steps) == most, cut
            if most:
                assert torn.array("step").tolist() == list(range(most))
                last = torn.steps[-1]
                assert (
                    last.step == most - 1 and last.arrays["frame"].tobytes() == step(most - 1).arrays["frame"].tobytes()
                )
                assert torn.episodes[-1].stop == most
            assert torn.notes or torn.complete


@pytest.mark.parametrize("cut", range(8))
def test_cut_within_the_first_bytes_it_is_no_recording(whole: bytes, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(whole[:cut])
    with pytest.raises(RecordingError, match="is empty" if cut == 0 else "not a recording"):
        open_recording(path)


def test_the_note_says_what_was_cut(whole: bytes, tmp_path: Path) -> None:
    path, (end, count) = tmp_path / "run.mcap", steps_before(whole)[50]
    path.write_bytes(whole[: end + 40_000])
    with open_recording(path) as torn:
        (note,) = torn.notes
        assert "not ended" in note and "bytes are a part of a record" in note
        assert f"{len(torn.steps)} steps were found without its index" in note and len(torn.steps) >= count


def test_damage_anywhere_is_noticed_and_the_rest_is_right(whole: bytes, tmp_path: Path) -> None:
    path, generator = tmp_path / "run.mcap", random.Random(1)
    for _ in range(20):
        damaged = bytearray(whole)
        place = generator.randrange(8, len(whole))
        damaged[place : place + 16] = generator.randbytes(16)
        path.write_bytes(damaged)
        try:
            with open_recording(path) as found:
                for number in range(0, len(found.steps), 97):
                    taken = found.steps[number]
                    assert taken.arrays["frame"].tobytes() == step(taken.step).arrays["frame"].tobytes()
        except RecordingError as error:
            assert str(path) in str(error) or "index" in str(error)


def test_a_damaged_index_is_made_anew(whole: bytes, tmp_path: Path) -> None:
    path, damaged = tmp_path / "run.mcap", bytearray(whole)
    summary = make_reader(io.BytesIO(whole)).get_summary()
    assert summary is not None
    topics = {channel.topic: number for number, channel in summary.channels.items()}
    index = next(each for each in summary.chunk_indexes if topics["index"] in each.message_index_offsets)
    damaged[index.chunk_start_offset + 100] ^= 0xFF
    path.write_bytes(damaged)
    with open_recording(path) as found:
        assert found.array("step").tolist() == list(range(1100))
        assert "1 chunks are damaged" in found.notes[0]


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(RecordingError, match="not a recording: it does not begin as an MCAP file"):
        open_recording(path)
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2")
        writer.finish()
    with pytest.raises(RecordingError, match=r"not a recording of agentwrap \(profile 'ros2'\)"):
        open_recording(path)
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        open_recording(tmp_path / "missing.mcap")
    with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
        open_recording(tmp_path)


def test_another_major_version_is_refused_naming_both(tmp_path: Path) -> None:
    path, encoder = tmp_path / "run.mcap", McapEncoder(library="future")
    path.write_bytes(encoder.begin({**describe(hello()), "protocol": "2.7"}) + encoder.add(step(0)) + encoder.finish())
    with pytest.raises(RecordingError, match=r"protocol 2\.7, this reads 1\.\d"):
        open_recording(path)


def test_a_length_that_lies_reserves_nothing(whole: bytes, tmp_path: Path) -> None:
    path, end = tmp_path / "run.mcap", steps_before(whole)[3][0]
    path.write_bytes(whole[:end] + struct.pack("<BQ", 6, 2**62) + b"x" * 100)
    with open_recording(path) as found:
        assert len(found.steps) == steps_before(whole)[3][1]


def test_a_file_that_is_being_written_opens_and_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "LOOK", 0.01)
    path = tmp_path / "run.mcap"
    made = begun(path)
    for number in range(50):
        made.put(step(number))
    growing = open_recording(path)
    eventually(lambda: len(growing.steps) == 50, between=growing.refresh)
    assert not growing.complete and "still being written" in growing.notes[0]
    followed = growing.follow(patience=60)
    assert [next(followed).step for _ in range(50)] == list(range(50))

    def go_on() -> None:
        for number in range(50, 1200):
            made.put(step(number))
        made.close()

    threading.Thread(target=go_on).start()
    assert [each.step for each in followed] == list(range(50, 1200))
    assert growing.complete and growing.notes == [] and growing.array("step").tolist() == list(range(1200))
    growing.close()


def test_following_gives_up_when_nothing_comes(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LOOK", 0.01)
    path, (end, count) = tmp_path / "run.mcap", steps_before(whole)[2]
    path.write_bytes(whole[:end])
    with open_recording(path) as torn:
        assert len(list(torn.follow(patience=0.05))) == count
