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


def test_a_sound_corpus_has_nothing_wrong(corpus, capsys):
    assert found(corpus) == []
    assert run(corpus, "--strict") == 0
    assert "no errors and no warnings" in capsys.readouterr().out


# Files


def test_an_empty_file(corpus):
    corpus.list("yes/empty.wav", "yes", "anna", "training").touch()
    assert found(corpus) == [("empty", ("yes/empty.wav",))]


@pytest.mark.parametrize("content", [b"<html>", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"\x00" * 999])
def test_a_file_that_is_no_audio(corpus, content):
    corpus.list("yes/text.wav", "yes", "anna", "training").write_bytes(content)
    assert found(corpus) == [("corrupt", ("yes/text.wav",))]


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_that_breaks_off(corpus, suffix, share):
    name = corpus.add("yes", suffix=suffix)
    path = corpus.root / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert found(corpus) == [("corrupt", (name,))]


def test_a_recording_whose_writer_could_not_know_its_length(corpus):
    path = corpus.root / corpus.add("yes")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    assert found(corpus) == []


def test_a_recording_without_a_sample(corpus):
    name = corpus.add("yes", np.zeros(0, np.float32))
    assert found(corpus) == [("no_samples", (name,))]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(corpus, value):
    samples = noise(99)
    samples[5:8] = value
    name = corpus.add("yes", samples, subtype="FLOAT")
    report = checked(corpus)
    assert [(f.kind, f.files) for f in report.findings] == [("not_finite", (name,))]
    assert "3 of 16,000" in report.findings[0].detail


@pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (0.0005, True), (0.002, False)])
def test_silence(corpus, peak, silent):
    name = corpus.add("yes", peak * np.sign(noise(99)), subtype="PCM_24")
    assert found(corpus) == ([("silent", (name,))] if silent else [])


def test_silence_is_no_copy_of_silence(corpus):
    corpus.add("yes", np.zeros(RATE))
    corpus.add("no", np.zeros(RATE))
    assert {kind for kind, _ in found(corpus)} == {"silent"}


@pytest.mark.parametrize(("gain", "clipped"), [(100.0, True), (3.4, False)])
def test_clipping(corpus, gain, clipped):
    samples = np.clip(gain * noise(99), -1, 1)
    share = (np.abs(samples) == 1).mean()
    assert (share > 0.9) if clipped else (0 < share < 0.01)
    name = corpus.add("yes", samples)
    assert found(corpus) == ([("clipped", (name,))] if clipped else [])


def test_a_rate_that_others_do_not_have(corpus):
    name = corpus.add("yes", rate=8_000)
    report = checked(corpus)
    assert [(f.kind, f.files) for f in report.findings] == [("odd_rate", (name,))]
    assert report.findings[0].detail == "8000 Hz; most have 16000 Hz"


@pytest.mark.parametrize(("seconds", "odd"), [(0.3, 1), (0.35, 0), (2.9, 0), (3.1, 1)])
def test_a_length_that_others_do_not_have(corpus, seconds, odd):
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


def test_a_speaker_in_two_splits(corpus):
    corpus.add("yes", speaker="anna", split="testing")
    (finding,) = checked(corpus).findings
    assert finding.kind == "speaker_in_two_splits"
    assert finding.detail == "anna: 20 in training, 1 in testing"


@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_an_empty_split(tmp_path, split):
    corpus = Corpus(tmp_path)
    for other in {"training", "validation", "testing"} - {split}:
        for word in ("yes", "no"):
            for _ in range(10):
                corpus.add(word, speaker=f"of {other}", split=other)
    (finding,) = checked(corpus).findings
    assert finding.kind == "empty_split"
    assert split in finding.detail
    assert run(corpus) == 4


def test_words_with_few_clips_in_training(corpus):
    for _ in range(9):
        corpus.add("maybe")
    corpus.add("never", speaker="clara", split="testing")
    report = checked(corpus)
    assert [finding.detail for finding in report.findings] == [
        "maybe: 9 in training",
        "never: 0 in training",
    ]
    assert {finding.kind for finding in report.findings} == {"few_clips"}


def test_a_folder_whose_speakers_nobody_can_tell_says_so(tmp_path):
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


def test_the_table_has_a_line_a_kind_with_a_few_examples(broken, capsys):
    assert run(broken) == 4
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("error", "warning"))] == [
        ["error", "empty"],
        ["error", "corrupt"],
        ["error", "same"],
        ["warning", "silent"],
    ]
    assert "yes/[bold]0.wav" in said.out
    assert "and 2 more" in said.out
    assert "yes/[bold]4.wav" not in said.out
    assert "7 errors" in said.err
    assert max(map(len, lines[1:])) <= 80


def test_json_lists_everything(broken, capsys):
    assert run(broken, "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == 33
    assert told["errors"] == 7
    assert told["warnings"] == 1
    assert set(told["counts"]) == {*ERRORS, *WARNINGS}
    assert told["counts"]["corrupt"] == 5
    corrupt = [finding for finding in told["findings"] if finding["kind"] == "corrupt"]
    assert [finding["files"] for finding in corrupt] == [
        [f"yes/[bold]{number}.wav"] for number in range(5)
    ]
    assert {finding["severity"] for finding in corrupt} == {"error"}
    assert all(finding["detail"] for finding in corrupt)


def test_what_is_no_corpus_is_a_sentence(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 4
    assert "nowhere: not found" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path)]) == 4
    assert capsys.readouterr().out == ""


def test_ctrl_c_ends_a_check_at_once(corpus, monkeypatch, capsys):
    opened = open_corpus(corpus.manifest)
    told = []

    def progress(done, total):
        told.append(done)
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        check(opened, progress)
    assert told == [1, 2, 3]


def test_progress_counts_every_recording(corpus):
    told = []
    check(open_corpus(corpus.manifest), lambda done, total: told.append((done, total)))
    assert told == [(done, 24) for done in range(1, 25)]


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
