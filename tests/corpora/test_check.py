"""`data check` on corpora with one thing wrong, and on real ones."""

import json
import signal

import numpy as np
import pytest
import soundfile
from corpus_files import RATE, Corpus, noise, sound_corpus

from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.check import ERRORS, WARNINGS, CheckReport, check


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return sound_corpus(tmp_path)


def checked(corpus: Corpus) -> CheckReport:
    return check(open_corpus(corpus.manifest))


def found(corpus: Corpus) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.files) for finding in checked(corpus).findings]


def run(corpus: Corpus, *options: str) -> int:
    return main(["data", "check", str(corpus.manifest), *options])


def test_a_good_corpus_has_no_findings(corpus, capsys):
    assert found(corpus) == []
    assert run(corpus, "--strict") == 0
    assert "no errors and no warnings" in capsys.readouterr().out


# Files


def test_empty_files_are_errors(corpus):
    corpus.list("yes/empty.wav", "yes", "anna", "training").touch()
    assert found(corpus) == [("empty", ("yes/empty.wav",))]


@pytest.mark.parametrize("content", [b"<html>", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"\x00" * 999])
def test_files_that_are_not_audio_are_corrupt(corpus, content):
    corpus.list("yes/text.wav", "yes", "anna", "training").write_bytes(content)
    assert found(corpus) == [("corrupt", ("yes/text.wav",))]


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_corrupt(corpus, suffix, share):
    name = corpus.add("yes", suffix=suffix)
    path = corpus.root / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert found(corpus) == [("corrupt", (name,))]


def test_unknown_lengths_are_fine(corpus):
    path = corpus.root / corpus.add("yes")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    assert found(corpus) == []


def test_recordings_without_samples_are_errors(corpus):
    name = corpus.add("yes", np.zeros(0, np.float32))
    assert found(corpus) == [("no_samples", (name,))]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_are_errors(corpus, value):
    samples = noise(99)
    samples[5:8] = value
    name = corpus.add("yes", samples, subtype="FLOAT")
    report = checked(corpus)
    assert [(f.kind, f.files) for f in report.findings] == [("not_finite", (name,))]
    assert "3 of 16,000" in report.findings[0].detail


@pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (0.0005, True), (0.002, False)])
def test_silent_clips_are_warnings(corpus, peak, silent):
    name = corpus.add("yes", peak * np.sign(noise(99)), subtype="PCM_24")
    assert found(corpus) == ([("silent", (name,))] if silent else [])


def test_channels_that_cancel_each_other_are_a_warning(corpus):
    """The recognizer gets their average."""
    samples = noise(99)
    opposed = corpus.add("yes", np.stack([samples, -0.9 * samples], axis=1))
    array = np.zeros((len(samples), 6), np.float32)
    array[:, 2] = noise(98)
    one_of_six = corpus.add("yes", array)
    stereo = np.stack([noise(97), 0.5 * noise(96)], axis=1)
    corpus.add("yes", stereo)
    report = checked(corpus)
    assert [(f.kind, f.files) for f in report.findings] == [
        ("channels", (opposed,)),
        ("channels", (one_of_six,)),
    ]
    assert report.findings[1].detail == "their average is 16 dB quieter than channel 3 alone"


def test_skipped_files_and_guessed_speakers_are_reported(tmp_path, capsys):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number, speaker in enumerate(("anna", "boris", "clara", "dora")):
            samples = noise(number + 10 * len(word))
            soundfile.write(tmp_path / word / f"{speaker}_1.wav", samples, RATE)
    (tmp_path / "no" / "notes.txt").write_text("clara speaks softly")
    assert main(["data", "check", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 skipped: not an audio file by its suffix (no/notes.txt)" in shown
    assert "4 speakers, by the file names: anna, boris, clara, dora (if" in shown
    assert main(["data", "check", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["guessed_speakers"] == ["anna", "boris", "clara", "dora"]
    assert [skipped["file"] for skipped in report["skipped"]] == ["no/notes.txt"]
    assert main(["data", "stats", str(tmp_path)]) == 0
    assert "no/notes.txt" in capsys.readouterr().out


def test_silent_clips_are_not_duplicates(corpus):
    corpus.add("yes", np.zeros(RATE))
    corpus.add("no", np.zeros(RATE))
    assert {kind for kind, _ in found(corpus)} == {"silent"}


@pytest.mark.parametrize(("gain", "clipped"), [(100.0, True), (3.4, False)])
def test_clipped_clips_are_warnings(corpus, gain, clipped):
    samples = np.clip(gain * noise(99), -1, 1)
    share = (np.abs(samples) == 1).mean()
    assert (share > 0.9) if clipped else (0 < share < 0.01)
    name = corpus.add("yes", samples)
    assert found(corpus) == ([("clipped", (name,))] if clipped else [])


@pytest.mark.parametrize(
    ("quiet_before_s", "quiet_after_s", "cut_off"),
    [
        (0.2, 0.2, ""),
        (0.3, 0.0, "at its end"),
        (0.0, 0.3, "at its beginning"),
        (0.03, 0.3, ""),
    ],
)
@pytest.mark.parametrize("padding_s", [0.0, 0.5])
def test_words_that_the_recording_cuts_off_are_warnings(
    corpus, quiet_before_s, quiet_after_s, cut_off, padding_s
):
    """Digital silence, with which a clip is filled up to a second, hides nothing."""
    rng = np.random.default_rng(1)
    padding = np.zeros(round(padding_s * RATE))
    before, word, after = (
        level * rng.standard_normal(round(seconds * RATE))
        for level, seconds in ((1e-4, quiet_before_s), (0.1, 0.4), (1e-4, quiet_after_s))
    )
    name = corpus.add("yes", np.concatenate([padding, before, word, after, padding]))
    findings = [f for f in checked(corpus).findings if f.kind != "odd_length"]
    expected = [("cut_off", cut_off, (name,))] if cut_off else []
    assert [(f.kind, f.detail, f.files) for f in findings] == expected


def test_odd_rates_are_warnings(corpus):
    name = corpus.add("yes", rate=8_000)
    report = checked(corpus)
    assert [(f.kind, f.files) for f in report.findings] == [("odd_rate", (name,))]
    assert report.findings[0].detail == "8000 Hz; most have 16000 Hz"


@pytest.mark.parametrize(("seconds", "odd"), [(0.3, 1), (0.35, 0), (2.9, 0), (3.1, 1)])
def test_odd_lengths_are_warnings(corpus, seconds, odd):
    name = corpus.add("yes", noise(99, seconds))
    assert found(corpus) == ([("odd_length", (name,))] if odd else [])


def test_a_background_recording_that_cannot_be_read(tmp_path):
    for word in ("yes", "no"):
        for speaker in ("anna", "boris", "clara", "dora"):
            (tmp_path / word).mkdir(exist_ok=True)
            samples = noise(len(list(tmp_path.rglob("*.wav"))))
            soundfile.write(tmp_path / word / f"{speaker}_1.wav", samples, RATE)
    (tmp_path / "_background_noise_").mkdir()
    (tmp_path / "_background_noise_" / "fan.wav").write_bytes(b"no sound")
    report = check(open_corpus(tmp_path))
    corrupt = [finding.files for finding in report.findings if finding.kind == "corrupt"]
    assert corrupt == [("_background_noise_/fan.wav",)]
    assert report.noises == 1


# Files and each other


def test_the_same_audio_in_another_container_under_another_word(corpus):
    samples = (noise(99) * 32767).astype(np.int16)
    first = corpus.add("yes", samples)
    second = corpus.add("no", samples, suffix="flac")
    stereo = corpus.add("no", np.stack([samples] * 2, axis=1))
    report = checked(corpus)
    assert [(f.kind, set(f.files)) for f in report.findings] == [
        ("two_labels", {first, second, stereo})
    ]
    assert "no and yes" in report.findings[0].detail


def test_the_same_audio_in_two_splits(corpus):
    names = {
        corpus.add("yes", noise(99)),
        corpus.add("yes", noise(99), speaker="d", split="testing"),
    }
    report = checked(corpus)
    assert [(f.kind, set(f.files)) for f in report.findings] == [("two_splits", names)]
    assert report.findings[0].detail == "training and testing"


def test_the_same_audio_under_two_words_in_two_splits_is_both(corpus):
    corpus.add("yes", noise(99))
    corpus.add("no", noise(99), speaker="d", split="testing")
    assert [kind for kind, _ in found(corpus)] == ["two_labels", "two_splits"]


def test_the_same_audio_twice_for_the_same_word_is_a_warning(corpus):
    corpus.add("yes", noise(99))
    corpus.add("yes", noise(99))
    assert [kind for kind, _ in found(corpus)] == ["repeated"]
    assert run(corpus) == 0
    assert run(corpus, "--strict") == 4


def test_nearly_the_same_audio_is_not_the_same(corpus):
    samples = noise(99)
    corpus.add("yes", samples)
    samples[-1] += 0.01
    corpus.add("no", samples)
    assert found(corpus) == []


def test_speakers_in_two_splits_are_errors(corpus):
    corpus.add("yes", speaker="anna", split="testing")
    (finding,) = checked(corpus).findings
    assert finding.kind == "speaker_in_two_splits"
    assert finding.detail == "anna: 20 in training, 1 in testing"


@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_empty_splits_are_errors(tmp_path, split):
    corpus = Corpus(tmp_path)
    for other in {"training", "validation", "testing"} - {split}:
        for word in ("yes", "no"):
            for _ in range(10):
                corpus.add(word, speaker=f"of {other}", split=other)
    (finding,) = checked(corpus).findings
    assert finding.kind == "empty_split"
    assert split in finding.detail
    assert run(corpus) == 4


def test_words_with_few_clips_are_warnings(corpus):
    for _ in range(9):
        corpus.add("maybe")
    corpus.add("never", speaker="clara", split="testing")
    report = checked(corpus)
    assert [(finding.kind, finding.detail) for finding in report.findings] == [
        ("few_clips", "maybe: 9 in training"),
        ("few_clips", "never: 0 in training"),
        ("not_in_split", "maybe: no clip in validation or testing"),
        ("not_in_split", "never: no clip in validation"),
    ]


def test_unknown_speakers_are_a_warning(tmp_path):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number in range(40):
            samples = noise(40 * len(word) + number)
            soundfile.write(tmp_path / word / f"{number}.wav", samples, RATE)
    (finding,) = check(open_corpus(tmp_path)).findings
    assert finding.kind == "split_by_file"


# The command


@pytest.fixture
def broken(corpus) -> Corpus:
    """One thing of many kinds, and five corrupt files."""
    for number in range(5):
        corpus.list(f"yes/[bold]{number}.wav", "yes", "anna", "training").write_bytes(b"text")
    corpus.list("no/empty.wav", "no", "anna", "training").touch()
    corpus.add("yes", noise(99))
    corpus.add("no", noise(99))
    corpus.add("yes", np.zeros(RATE))
    return corpus


def test_the_table_has_a_line_for_each_kind(broken, capsys):
    assert run(broken) == 4
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("error", "warning"))] == [
        ["error", "empty"],
        ["error", "corrupt"],
        ["error", "same"],
        ["warning", "silent"],
    ]
    assert "yes/[bold]0.wav" in shown.out
    assert "and 2 more" in shown.out
    assert "yes/[bold]4.wav" not in shown.out
    assert "7 errors" in shown.err
    assert max(map(len, lines[1:])) <= 80


def test_json_lists_everything(broken, capsys):
    assert run(broken, "--json") == 4
    reported = json.loads(capsys.readouterr().out)
    assert reported["clips"] == 33
    assert reported["errors"] == 7
    assert reported["warnings"] == 1
    assert set(reported["counts"]) == {*ERRORS, *WARNINGS}
    assert reported["counts"]["corrupt"] == 5
    corrupt = [finding for finding in reported["findings"] if finding["kind"] == "corrupt"]
    assert [finding["files"] for finding in corrupt] == [
        [f"yes/[bold]{number}.wav"] for number in range(5)
    ]
    assert {finding["severity"] for finding in corrupt} == {"error"}
    assert all(finding["detail"] for finding in corrupt)


def test_directories_without_a_corpus_are_errors(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 4
    assert "nowhere: not found" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path)]) == 4
    assert capsys.readouterr().out == ""


def test_ctrl_c_ends_a_check_at_once(corpus, monkeypatch, capsys):
    opened = open_corpus(corpus.manifest)
    reported = []

    def progress(done, total):
        reported.append(done)
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        check(opened, progress)
    assert reported == [1, 2, 3]


def test_progress_counts_every_recording(corpus):
    reported = []
    check(open_corpus(corpus.manifest), lambda done, total: reported.append((done, total)))
    assert reported == [(done, 24) for done in range(1, 25)]


# Real recordings


@pytest.mark.slow
def test_gsc_open_has_no_errors(gsc_open):
    report = check(open_corpus(gsc_open))
    assert report.errors == 0
    assert report.clips == 10_546
    # Its README gives these words 2 to 25 clips; so few are worth a warning.
    few = {finding.detail.split(":")[0] for finding in report.by_kind()["few_clips"]}
    assert few == {"backward", "follow", "forward", "learn", "visual"}


def test_real_damage_is_found_among_real_recordings(fsdd, tmp_path):
    for word in ("one", "two"):
        (tmp_path / word).mkdir()
        for path in sorted((fsdd / word).iterdir()):
            (tmp_path / word / path.name).symlink_to(path)
    stolen = tmp_path / "one" / "jackson_900.flac"
    stolen.write_bytes((fsdd / "two" / "jackson_0.flac").read_bytes())
    cut = sorted((tmp_path / "two").iterdir())[5]
    content = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(content[: len(content) // 2])
    report = check(open_corpus(tmp_path))
    errors = [(f.kind, f.files) for f in report.findings if f.severity == "error"]
    assert errors == [
        ("corrupt", (f"two/{cut.name}",)),
        ("two_labels", ("one/jackson_900.flac", "two/jackson_0.flac")),
    ]
