"""Strings of words: every clip once, one speaker each, real gaps, and their word error rate."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tones import RATE, TONES_HZ, tone

from speechgru.corpora.sequences import LEAD_S, SequencePlan, Sequences, group_clips
from speechgru.corpora.split_audio import SplitAudio, open_split_audio
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError, UsageError
from speechgru.evaluation.metrics import wilson_interval
from speechgru.evaluation.sequences import (
    Edits,
    RecognizedSequence,
    SequenceReport,
    WordErrors,
    edits,
)
from speechgru.recognition.state_policy import CARRY

TAKES = {"anna": 5, "bert": 5, "carl": 1}


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> SplitAudio:
    """Tones of three speakers with silence around them; the third has three clips alone."""
    folder = tmp_path_factory.mktemp("padded")
    rng = np.random.default_rng(0)
    lines = ["file,word,speaker,split"]
    for speaker, takes in TAKES.items():
        for word in TONES_HZ:
            for take in range(takes):
                name = f"{word}-{speaker}-{take}.wav"
                silence = [1e-4 * rng.standard_normal(round(s * RATE)) for s in (0.3, 0.4)]
                samples = np.concatenate([silence[0], tone(word, take, 0.3), silence[1]])
                soundfile.write(folder / name, samples, RATE)
                lines.append(f"{name},{word},{speaker},testing")
    for split in ("training", "validation"):
        soundfile.write(folder / f"{split}.wav", tone("low", 9), RATE)
        lines.append(f"{split}.wav,low,dora,{split}")
    (folder / "all.csv").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHGRU_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_split_audio(folder / "all.csv", "folder", "testing", RATE)


def test_each_clip_is_in_one_sequence_of_one_speaker(audio):
    strings = group_clips(audio, SequencePlan(words=(2, 4)))
    used = [clip for string in strings for clip in string]
    clips = [e for e in audio.task.split("testing") if e.label in TONES_HZ]
    assert sorted(used, key=str) == sorted(clips, key=str)
    assert all(2 <= len(string) <= 4 for string in strings)
    assert all(len({clip.speaker for clip in string}) == 1 for string in strings)
    sizes = Counter(len(string) for string in strings)
    assert len(sizes) > 1


def test_speakers_with_few_clips_share_sequences(audio):
    strings = group_clips(audio, SequencePlan(words=(6, 6)))
    speakers = [{clip.speaker for clip in string} for string in strings]
    assert [len(s) for s in speakers] == [1, 1, 1, 1, 3]
    assert sum(map(len, strings)) == 30  # of 33: three are no string of six


def test_sequences_are_reproducible(audio):
    first, again, other = (Sequences(audio, SequencePlan(seed=seed)) for seed in (3, 3, 4))
    assert len(first) == len(again)
    for number in range(len(first)):
        one, two = first[number], again[number]
        assert one.words == two.words
        assert np.array_equal(one.samples, two.samples)
    assert [first[i].words for i in range(3)] != [other[i].words for i in range(3)]


def loud(samples, floor_db=-40):
    """Stretches of sound, in seconds: from, to."""
    frames = np.square(samples[: len(samples) // 80 * 80].reshape(-1, 80) / 32768).mean(axis=1)
    above = np.concatenate([[0], (10 * np.log10(frames + 1e-12) > floor_db).astype(int), [0]])
    return (
        np.stack([np.flatnonzero(np.diff(above) == sign) for sign in (1, -1)], axis=1) * 80 / RATE
    )


@pytest.mark.parametrize("gap_s", [0.1, 0.3])
def test_gaps_are_measured_between_words(audio, gap_s):
    plan = SequencePlan(words=(3, 3), gap_s=(gap_s, gap_s), snr_db=(30, 30))
    strings = Sequences(audio, plan)
    for number in range(3):
        stretches = loud(strings[number].samples)
        assert len(stretches) == 3
        gaps = stretches[1:, 0] - stretches[:-1, 1]
        assert gaps == pytest.approx(gap_s, abs=0.045)  # word_bounds_s is in frames of 20 ms
        assert stretches[0, 0] == pytest.approx(LEAD_S, abs=0.03)
        assert len(strings[number].samples) / RATE - stretches[-1, 1] == pytest.approx(
            1.0, abs=0.05
        )


def test_sequences_have_the_planned_snr(audio):
    string = Sequences(audio, SequencePlan(words=(3, 3), gap_s=(0.3, 0.3), snr_db=(20, 20)))[0]
    samples = string.samples / 32768

    def level_db(part):
        return 10 * np.log10(np.square(part).mean())

    first = loud(string.samples, -38)[0]
    noise = level_db(samples[: round(0.4 * RATE)])
    word = level_db(samples[round(first[0] * RATE) : round(first[1] * RATE)])
    assert word - noise == pytest.approx(20, abs=1.5)


def test_invalid_sequence_plans_are_errors():
    for wrong, spoken in (
        ({"words": (0, 3)}, "words 0:3"),
        ({"words": (5, 3)}, "words 5:3"),
        ({"gap_s": (-0.1, 0.3)}, "gap -0.1:0.3"),
        ({"snr_db": (30, 20)}, "snr 30:20"),
    ):
        with pytest.raises(UsageError, match=spoken):
            SequencePlan(**wrong)


def test_too_few_clips_for_a_sequence_are_an_error(audio):
    with pytest.raises(DataError, match=r"33 clips of words; a sequence needs 40"):
        group_clips(audio, SequencePlan(words=(40, 40)))


def test_sequences_have_neither_silence_nor_unknown_words(audio):
    examples = tuple(replace(e, label="_unknown_") for e in audio.task.split("testing")[:9])
    rest = audio.task.split("testing")[9:]
    task = replace(audio.task, splits=audio.task.splits | {"testing": (*examples, *rest)})
    strings = group_clips(replace(audio, task=task), SequencePlan(words=(2, 2)))
    assert sum(map(len, strings)) == (33 - 9) // 2 * 2


# Edits.


def distance(spoken, heard):
    """The fewest edits, by trying all."""
    if not spoken or not heard:
        return len(spoken) + len(heard)
    return min(
        distance(spoken[1:], heard[1:]) + (spoken[0] != heard[0]),
        distance(spoken[1:], heard) + 1,
        distance(spoken, heard[1:]) + 1,
    )


few_words = st.lists(st.sampled_from("abc"), max_size=5)


@given(spoken=few_words, heard=few_words)
def test_edits_are_the_fewest_and_add_up(spoken, heard):
    found = edits(spoken, heard)
    assert found.total == distance(spoken, heard)
    assert len(spoken) - found.deletions + found.insertions == len(heard)
    assert min(found) >= 0


@given(spoken=few_words, heard=few_words)
def test_edits_are_as_many_as_torchaudio_counts(spoken, heard):
    from torchaudio.functional import edit_distance

    assert edits(spoken, heard).total == edit_distance(spoken, heard)


def test_each_kind_of_edit_is_told_apart():
    assert edits("ab", "ab") == Edits(0, 0, 0)
    assert edits("ab", "xb") == Edits(1, 0, 0)
    assert edits("abc", "ac") == Edits(0, 1, 0)
    assert edits("ac", "abc") == Edits(0, 0, 1)
    assert edits("", "ab") == Edits(0, 0, 2)
    assert edits("ab", "") == Edits(0, 2, 0)


# The rate.


def heard_strings(pairs, speaker=""):
    return tuple(RecognizedSequence(speaker, tuple(said), tuple(heard)) for said, heard in pairs)


def test_the_rate_is_of_all_words_together():
    errors = WordErrors(heard_strings([("abcd", "abcd"), ("ab", "b"), ("ab", "acbb")]))
    assert (errors.words, errors.edits) == (8, Edits(0, 1, 2))
    assert errors.rate == pytest.approx(3 / 8)
    assert errors.correct_sequences == 1
    low, high = errors.ci95
    assert 0 <= low < 3 / 8 < high


def test_intervals_narrow_with_more_sequences():
    pairs = [("abcd", "abcd"), ("abcd", "abc")]
    few, many = (WordErrors(heard_strings(pairs * n)) for n in (10, 1_000))
    width = [high - low for low, high in (few.ci95, many.ci95)]
    assert width[1] < 0.15 * width[0]
    # Of 20 strings half have one error in four words: sd of the mean = 0.125 / sqrt(20).
    assert width[0] == pytest.approx(2 * 1.96 * 0.125 / np.sqrt(20), rel=0.15)


def test_interval_without_an_error_is_that_of_the_words():
    """Bootstrap samples of sequences that are all right would all be right."""
    five = WordErrors(heard_strings([("abcd", "abcd")] * 5))
    assert five.rate == 0
    assert five.ci95 == wilson_interval(0, 20)
    all_wrong = WordErrors(heard_strings([("ab", "cd")] * 3))
    assert all_wrong.ci95 == wilson_interval(6, 6)
    twice_as_many = WordErrors(heard_strings([("a", "bc")]))  # no share of the words
    assert twice_as_many.ci95 == (2.0, 2.0)


def test_each_speaker_has_a_rate():
    strings = heard_strings([("ab", "ab")], "anna") + heard_strings([("ab", "b")] * 2, "bert")
    report = SequenceReport(WordErrors(strings), {}, DetectorConfig(), CARRY)
    rates = {name: errors.rate for name, errors in report.by_speaker.items()}
    assert rates == {"anna": 0.0, "bert": 0.5}
    figures = report.as_dict(wrong=1)
    assert figures["deletions"] == 2
    assert figures["by_speaker"]["bert"]["words"] == 4
    assert figures["wrong"] == [{"speaker": "bert", "said": "a b", "heard": "b"}]
    assert np.isfinite(figures["ci95"]).all()
