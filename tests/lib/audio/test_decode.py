"""Sound files that users give as a seed."""

import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from lib.audio.decode import MAX_MINUTES, read_beginning, read_whole
from lib.errors import UserError

RATE_HZ = 44_100
TONE_HZ = 441


def tone(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    turns = TONE_HZ / rate_hz * np.arange(round(seconds * rate_hz))
    sound: NDArray[np.float32] = (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)
    return sound


def problem(path: Path, samples: int = RATE_HZ) -> str:
    with pytest.raises(UserError) as error:
        read_beginning("seed_audio", path, samples, RATE_HZ)
    return str(error.value)


@pytest.mark.parametrize(("ending", "rate_hz"), [("wav", 44_100), ("wav", 8_000), ("flac", 96_000), ("ogg", 48_000)])
@pytest.mark.parametrize("channels", [1, 2])
def test_sounds_of_any_rate_become_mono_at_the_requested_rate(
    tmp_path: Path, ending: str, rate_hz: int, channels: int
) -> None:
    soundfile.write(tmp_path / f"a.{ending}", np.repeat(tone(2, rate_hz)[:, None], channels, axis=1), rate_hz)
    sound = read_beginning("seed_audio", tmp_path / f"a.{ending}", RATE_HZ, RATE_HZ)
    assert sound.shape == (RATE_HZ,)
    assert sound.dtype == np.float32
    assert np.abs(sound - tone(1))[1000:].max() < 0.05


def test_a_shorter_sound_is_returned_as_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE_HZ)
    assert len(read_beginning("seed_audio", tmp_path / "a.wav", RATE_HZ, RATE_HZ)) == RATE_HZ // 2


def test_only_the_beginning_of_a_file_of_two_hours_is_decoded(tmp_path: Path) -> None:
    size = 2 * 3600 * RATE_HZ * 2 * 2  # 1.3 GB, of which the disk holds only what is written
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(
            b"RIFF"
            + struct.pack("<I", size + 36)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 2, RATE_HZ, RATE_HZ * 4, 4, 16)
        )
        file.write(b"data" + struct.pack("<I", size))
        file.write(np.repeat((tone(3) * 32767).astype("<i2"), 2).tobytes())
        file.truncate(size + 44)
    started_s = time.process_time()
    sound = read_beginning("seed_audio", tmp_path / "a.wav", RATE_HZ, RATE_HZ)
    assert np.abs(sound - tone(1)).max() < 0.001
    assert time.process_time() - started_s < 1


def test_files_that_are_no_sound_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no sound")
    assert problem(tmp_path / "text") == (
        "seed_audio is not a sound file that can be read: Invalid data found when processing input"
    )
    assert problem(tmp_path / "missing").endswith("No such file or directory")
    with av.open(tmp_path / "film.mp4", "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        film.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")) + stream.encode())
    assert problem(tmp_path / "film.mp4") == "seed_audio has no sound: the file contains no audio stream"


def test_sounds_that_are_too_short_or_silent_are_rejected(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(0.2), RATE_HZ)
    assert problem(tmp_path / "short.wav") == "seed_audio has 0.200 s of sound, but must have at least 0.25 s"
    soundfile.write(tmp_path / "empty.wav", tone(0), RATE_HZ)
    assert problem(tmp_path / "empty.wav") == "seed_audio has 0.000 s of sound, but must have at least 0.25 s"
    soundfile.write(tmp_path / "silent.wav", 1e-5 * tone(3), RATE_HZ, "FLOAT")
    assert problem(tmp_path / "silent.wav") == "seed_audio is silent in its first 1.00 s, but must have a sound there"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), RATE_HZ)
    playlist = tmp_path / "a.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/a.wav\n#EXT-X-ENDLIST\n")
    assert problem(playlist).startswith("seed_audio is not a sound file that can be read")
    playlist.write_text(f"ffconcat version 1.0\nfile {tmp_path}/a.wav\n")
    assert problem(playlist).startswith("seed_audio is not a sound file that can be read")


@pytest.mark.parametrize(
    ("rate_hz", "channels", "kept"), [(8_000, 1, 1), (48_000, 2, 2), (44_100, 6, 2), (48_000, 8, 2)]
)
def test_a_whole_sound_has_one_or_two_channels(tmp_path: Path, rate_hz: int, channels: int, kept: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.repeat(tone(2, rate_hz)[:, None], channels, axis=1), rate_hz)
    sound = read_whole("audio", tmp_path / "a.wav", RATE_HZ)
    assert sound.shape[0] == kept
    assert sound.shape[1] == pytest.approx(2 * RATE_HZ, abs=RATE_HZ / 100)
    assert 0.3 < np.abs(sound).max() <= 1


def test_a_sound_that_is_too_long_is_rejected_without_reading_it_all(tmp_path: Path) -> None:
    size = 3 * 3600 * 8000 * 2
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16) + b"data" + struct.pack("<I", size))
        file.truncate(size + 44)
    with pytest.raises(UserError, match=f"^audio is longer than {MAX_MINUTES} minutes, but must be at most that long$"):
        read_whole("audio", tmp_path / "a.wav", RATE_HZ)


def test_a_broken_file_and_one_without_sound_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"ID3" + bytes(1000))
    with pytest.raises(UserError, match=r"^audio is not a sound file that can be read"):
        read_whole("audio", tmp_path / "a.mp3", RATE_HZ)
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", 25, {"preset": "ultrafast"})
        stream.width = stream.height = 64
        for packet in stream.encode(av.VideoFrame(64, 64, "yuv420p")):
            container.mux(packet)
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"^audio has no sound: the file contains no audio stream$"):
        read_whole("audio", tmp_path / "a.mp4", RATE_HZ)
