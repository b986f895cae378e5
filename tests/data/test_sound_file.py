"""One reader and one rule for stages and classification: how long a recording is, and why one cannot be used."""

import os
import struct

import numpy as np
import pytest
import soundfile
from lhotse import Recording, SupervisionSegment

from dnf.data.audio import Rejected, load_samples
from dnf.data.audio_blocks import Source, read_blocks
from dnf.data.manifests import Utterance, manifests
from dnf.experiment.config import resolve

SAMPLES = (np.random.default_rng(7).standard_normal(8000) * 3000).astype("<i2")
SOUND = SAMPLES.tobytes()
SIZE = len(SOUND)
SETTINGS = resolve([]).features
pytestmark = pytest.mark.usefixtures("by_header")


def wav(said: int, sound: bytes = SOUND, after: bytes = b"", before: bytes = b"", riff: int | None = None) -> bytes:
    """A wav whose header says ``said`` bytes of samples, with other chunks before and bytes after them."""
    riff = 36 + len(before) + len(sound) + len(after) if riff is None else riff
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVEfmt "
        + form
        + before
        + b"data"
        + struct.pack("<I", said)
        + sound
        + after
    )


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def rf64(said: int) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", SIZE + 72, said, said // 2, 0))
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + wav(0xFFFFFFFF)[12:]


def of_both(path) -> list[np.ndarray | str]:
    """What the stages and what classification read of a file: samples, or why not."""
    got = []
    _, supervisions, rejected = manifests([Utterance("u", "u", str(path), "u", "en")])
    try:
        if rejected:
            raise Rejected(rejected["u"])
        recording = Recording.from_file(path)
        whole = SupervisionSegment("u", recording.id, start=0, duration=supervisions["u"].duration)
        got.append(load_samples(recording, whole, SETTINGS))
    except Rejected as reason:
        got.append(str(reason))
    try:
        got.append(np.concatenate(list(read_blocks(Source(str(path)), 0.1)[1])))
    except ValueError as reason:
        got.append(str(reason))
    return got


LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 4) + b"x\0\0\0")
WHOLE = {
    "as it should be": wav(SIZE),
    "chunks after": wav(SIZE, after=LIST),
    "a chunk after that is cut off": wav(SIZE, after=LIST[:12]),
    "chunks before": wav(SIZE, before=LIST),
    "an odd chunk before": wav(SIZE, before=chunk(b"note", b"abc") + b"\0"),
    "player's tag after": wav(SIZE, after=b"TAG" + 125 * b"x"),
    "zeros after": wav(SIZE, after=bytes(1000)),
    "a few bytes after": wav(SIZE, after=b"\x01\x02\x03"),
    "RIFF size open": wav(SIZE, riff=0xFFFFFFFF),
    "RIFF size zero": wav(SIZE, riff=0),
    "ffffffff": wav(0xFFFFFFFF, riff=0xFFFFFFFF),
    "7fffffff": wav(0x7FFFFFFF),
    "7ffff000 of sox": wav(0x7FFFF000, riff=0x7FFFF024),
    "80000000": wav(0x80000000),
    "round, 1 GiB": wav(1 << 30),
    "round, 2e9": wav(2 * 10**9),
    "size plus 44": wav(SIZE + 44),
    "size plus 36": wav(SIZE + 36),
    "size of the file": wav(SIZE + 44 + len(LIST), before=LIST),
    "zero": wav(0),
    "zero, chunk before": wav(0, before=LIST),
    "zero, RIFF size zero": wav(0, riff=0),
    "RF64": rf64(SIZE),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_header_that_fits_or_is_open_gives_all_samples_to_both(tmp_path, kind):
    (tmp_path / "a.wav").write_bytes(WHOLE[kind])
    for read in of_both(tmp_path / "a.wav"):
        assert not isinstance(read, str), read
        assert np.array_equal(read[:8000] * 32768, SAMPLES) and len(read) - 8000 <= len(LIST)


DAMAGED = {
    "cut off": (wav(SIZE)[:9000], "8956 of 16000 bytes"),
    "cut off by a sample": (wav(SIZE)[:-2], "15998 of 16000 bytes"),
    "cut off, chunk before": (wav(SIZE, before=LIST)[:9000], f"{8956 - len(LIST)} of 16000 bytes"),
    "half": (wav(SIZE // 2), "says 8000 bytes of samples, but the file has 16000 bytes"),
    "half, RIFF size too": (
        wav(SIZE // 2, riff=36 + SIZE // 2),
        "says 8000 bytes of samples, but the file has 16000 bytes",
    ),
    "two in one": (wav(SIZE) + wav(SIZE), "says 16000 bytes of samples, but the file has 32044 bytes"),
    "RF64 cut off": (rf64(SIZE)[:9000], "of 16000 bytes"),
    "no samples": (wav(0, sound=b""), "has no samples"),
    "no samples, chunk after": (wav(0, sound=b"", after=LIST), "has no samples"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_does_not_fit_is_rejected_by_both_with_both_numbers(tmp_path, kind):
    content, message = DAMAGED[kind]
    (tmp_path / "a.wav").write_bytes(content)
    reasons = of_both(tmp_path / "a.wav")
    for reason in reasons:
        assert isinstance(reason, str) and reason.startswith(f"{tmp_path}/a.wav: ") and message in reason
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize(
    ("kind", "repeats"), [("AIFF", 1), ("AU", 1), ("FLAC", 1), ("FLAC", 3), ("MP3", 3), ("NIST", 1), ("RF64", 1)]
)
def test_other_formats_that_are_cut_off_are_rejected_by_both_with_both_numbers(tmp_path, kind, repeats):
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, np.tile(SAMPLES, repeats), 16000, format=kind)
    whole = path.read_bytes()
    for read in of_both(path):
        assert len(read) == 8000 * repeats
    path.write_bytes(whole[: len(whole) // 2])
    for reason in of_both(path):
        assert isinstance(reason, str) and "restore or leave out" in reason
        assert reason.startswith(f"{path}: truncated: ") and reason.count(str(path)) == 1


@pytest.mark.parametrize("kind", ("AU", "AIFF"))
@pytest.mark.parametrize("said", (0, SIZE // 2, SIZE, SIZE + 44, 1 << 30, 0x7FFFFFFF, 0xFFFFFFFF))
def test_the_rule_is_that_of_other_formats_too(tmp_path, kind, said):
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, SAMPLES, 16000, format=kind)
    content = bytearray(path.read_bytes())
    at, extra = (8, 0) if kind == "AU" else (content.index(b"SSND") + 4, 8 if said < 0x7FFFFFFF and said else 0)
    content[at : at + 4] = struct.pack(">I", said + extra)
    path.write_bytes(content)
    for read in of_both(path):
        if said == SIZE // 2:
            assert "says 8000 bytes of samples, but the file has 16000 bytes" in read
        else:
            assert np.array_equal(read * 32768, SAMPLES), read


def test_a_part_of_a_file_whose_length_is_open(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(0))
    recording = Recording.from_file(tmp_path / "a.wav")
    part = load_samples(recording, SupervisionSegment("u", "a", start=0.1, duration=0.25), SETTINGS)
    assert np.array_equal(part * 32768, SAMPLES[1600:5600])
    _, blocks = read_blocks(Source(str(tmp_path / "a.wav"), start=0.1, end=0.35), 0.1)
    assert np.array_equal(np.concatenate(list(blocks)) * 32768, SAMPLES[1600:5600])


def folder(path):
    path.mkdir()


def dangling(path):
    path.symlink_to(path.with_name("gone.wav"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (folder, "is a folder"),
        (os.mkfifo, "is a named pipe (FIFO)"),
        (dangling, "gone.wav, which does not exist"),
        (lambda path: path.write_bytes(b""), "cannot be read (Format not recognised)"),
        (lambda path: path.write_text("no sound"), "cannot be read (Format not recognised)"),
    ],
    ids=("nothing", "folder", "fifo", "link to nothing", "empty", "text"),
)
def test_what_is_no_recording_is_told_apart(tmp_path, make, message):
    path = tmp_path / ("a" * 200) / ("b" * 200 + ".wav")
    path.parent.mkdir()
    make(path)
    for reason in of_both(path):
        assert reason.startswith(f"{path}: ") and message in reason and reason.count(str(path)) == 1, reason


def test_a_long_name_does_not_cut_off_the_cause(tmp_path):
    path = tmp_path / ("a" * 200) / "b.caf"
    path.parent.mkdir()
    soundfile.write(path, SAMPLES, 16000)
    path.write_bytes(path.read_bytes()[:5000])
    for reason in of_both(path):
        assert "malformed" in reason, reason


# ---- commands ------------------------------------------------------------------------------------


def of_command(command: str) -> str:
    return manifests([Utterance("u", "u", f"{command} |", "u", "en")])[2].get("u", "")


def test_a_commands_own_words_and_its_folder_are_in_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reason = of_command("echo no such tape >&2; exit 3")
    assert f"the command ended with status 3, run in {tmp_path}: no such tape" in reason
    assert "wrote nothing" in of_command("true") and "Format not recognised" in of_command("echo hello")
    assert all("\n" not in of_command(command) for command in ("echo a >&2; echo b >&2; false", "echo hello"))


def test_the_stage_says_the_same_of_a_command_that_fails_later(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(SIZE))
    recordings, supervisions, rejected = manifests([Utterance("u", "u", f"cat {tmp_path}/a.wav |", "u", "en")])
    assert not rejected
    (tmp_path / "a.wav").unlink()
    with pytest.raises(Rejected, match=r"a.wav : cannot be read \(the command ended with status 1.*No such file"):
        load_samples(recordings["u"], supervisions["u"], SETTINGS)


def test_a_command_has_the_rule_of_files(tmp_path):
    (tmp_path / "open.wav").write_bytes(wav(0))
    (tmp_path / "half.wav").write_bytes(wav(SIZE // 2))
    recordings, supervisions, _ = manifests([Utterance("u", "u", f"cat {tmp_path}/open.wav |", "u", "en")])
    assert np.array_equal(load_samples(recordings["u"], supervisions["u"], SETTINGS) * 32768, SAMPLES)
    assert "says 8000 bytes of samples, but the file has 16000 bytes" in of_command(f"cat {tmp_path}/half.wav")


def test_a_name_in_another_unicode_form_is_found(tmp_path):
    (tmp_path / "re\u0301ne.wav").write_bytes(wav(SIZE))
    for reason in of_both(tmp_path / "r\u00e9ne.wav"):
        assert r"a file name with other Unicode characters exists, 're\u0301ne.wav'; use the same characters" in reason
    for reason in of_both(tmp_path / "r\u00e9n\u00e9.wav"):
        assert "no such file; correct the path" in reason
