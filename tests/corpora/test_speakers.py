"""Speakers: found in a file's name, and put into splits by their hash and their words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgru.corpora import SPLITS
from speechgru.corpora.speaker_names import speaker_in_name
from speechgru.corpora.speakers import (
    Recording,
    hash_percent,
    hash_split,
    split_recordings,
    split_speakers,
)

MANY = [f"anna{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("name", "word", "speaker"),
    [
        ("yes/0a7c2a8d_nohash_0.wav", "yes", "0a7c2a8d"),
        ("yes/anna_b_nohash_0.wav", "yes", "anna_b"),
        ("yes/anna_3.wav", "yes", "anna"),
        ("yes/-anna_3.wav", "yes", "anna"),
        ("yes/_anna_3.wav", "yes", "anna"),
        ("yes/anna.wav", "yes", "anna"),
        ("yes/yes-anna-3.wav", "yes", "anna"),
        ("yes/yes_3.wav", "yes", ""),
        ("yes/yes.wav", "yes", ""),
        ("yes/12.wav", "yes", ""),
        ("yes/anna (3).wav", "yes", "anna"),
        ("yes/anna.3.wav", "yes", "anna"),
        ("yes/anna3.wav", "yes", "anna"),
        ("yes/anna_3 (2).wav", "yes", "anna"),
        ("yes/anna - Copy.wav", "yes", "anna"),
        ("yes/anna_yes_3.wav", "yes", "anna"),
        ("yes/Anna Maria 3.wav", "yes", "Anna Maria"),
        ("yes/03_anna.wav", "yes", "anna"),
        ("yes/20260105_anna_2.wav", "yes", "anna"),
        ("0/0_jackson_7.wav", "0", "jackson"),
        ("yes/speaker3.wav", "yes", "speaker3"),
        ("yes/Speaker_3_1.wav", "yes", "Speaker3"),
        ("yes/spk 3 take 2.wav", "yes", "spk3"),
        ("yes/sp03_1.wav", "yes", "sp03"),
        ("yes/anna3_1.wav", "yes", "anna3"),
        ("yes/007_2.wav", "yes", ""),
        ("0/0_01_7.wav", "0", ""),
        ("yes/03_yes.wav", "yes", ""),
        ("yes/20260105_101503.wav", "yes", ""),
        ("yes/2026-01-05 10.15.03.wav", "yes", ""),
        ("yes/Recording (3).wav", "yes", ""),
        ("yes/New Recording 12.wav", "yes", ""),
        ("yes/WhatsApp Audio 2026-01-05 at 10.15.03.wav", "yes", ""),
        ("turn on/turn on_anna_1.wav", "turn on", "anna"),
        ("turn on/turn_on_1.wav", "turn on", ""),
        ("turn on/TurnOn_1.wav", "turn on", ""),
        ("turn on/Turn-On-anna-1.wav", "turn on", "anna"),
        ("turn on/anna_turn_on.wav", "turn on", "anna"),
        ("TurnOn/turn_on_1.wav", "TurnOn", ""),
        ("hey_jarvis/hey-jarvis-01.wav", "hey_jarvis", ""),
        ("hey jarvis/heyjarvis_zoë_1.wav", "hey jarvis", "zoë"),
        ("größe öffnen/grosse.wav", "größe öffnen", "grosse"),
        ("café/cafe_1.wav", "café", ""),
        ("cafe/café_zoë.wav", "cafe", "zoë"),
        ("예/이_1.wav", "예", "이"),
        ("c++/c++_anna.wav", "c++", "anna"),
        ("yes/aug_anna_1.wav", "yes", "anna"),
        ("yes/speed1.1_anna_1.wav", "yes", "anna"),
        ("yes/pitch_up.wav", "yes", "up"),
        ("yes/original_3.wav", "yes", ""),
        ("yes/anna_1_reverb.wav", "yes", "anna"),
        ("yes/PTT-20261103-WA0001.opus", "yes", ""),
        ("yes/Nuova registrazione 3.m4a", "yes", ""),
        ("yes/2026-01-05T10-00-30Z.wav", "yes", ""),
        ("yes/10h03m30s.wav", "yes", ""),
        ("yes/ch1_anna_2.wav", "yes", "anna"),
        ("yes/1m_anna_2.wav", "yes", "anna"),
        ("yes/1st anna.wav", "yes", "anna"),
        ("yes/v1_anna.wav", "yes", "anna"),
        ("yes/vera_1.wav", "yes", "vera"),
        ("yes/v_1.wav", "yes", "v"),
        ("yes/v1_3.wav", "yes", "v1"),
        ("yes/01m_1.wav", "yes", "01m"),
        ("yes/nova_1.wav", "yes", "nova"),
        ("yes/My recording 3.m4a", "yes", ""),
    ],
)
def test_the_speaker_in_a_name(name: str, word: str, speaker: str) -> None:
    assert speaker_in_name(name, word) == speaker


@pytest.mark.parametrize("friends", [("ben", "carl", "dan", "eve"), ("mum", "dad", "sis", "gran")])
def test_who_has_most_recordings_is_trained_on(friends: tuple[str, ...]) -> None:
    """A hash alone would leave the owner's takes to validation, and train on a friend's."""
    takes = {"anna": 12, **dict.fromkeys(friends, 4)}
    recordings = [
        Recording(Path(word) / f"{speaker}_{number}.wav", f"{word}/{speaker}_{number}.wav", word)
        for word in ("yes", "no", "go")
        for speaker, count in takes.items()
        for number in range(count)
    ]
    split = split_recordings(recordings)
    splits = {clip.speaker: clip.split for clip in split.clips}
    assert (split.rule, splits["anna"]) == ("speaker", "training")
    assert set(splits.values()) == set(SPLITS)


def test_no_split_loses_a_word_to_who_has_most_recordings() -> None:
    words = {
        "dora": {"no": 7, "up": 7, "yes": 7},
        "hans": {"no": 2, "up": 2, "yes": 2, "go": 2},
        "ben": {"go": 2, "up": 2},
        "gina": {"no": 2},
    }
    recordings = [
        Recording(Path(word) / f"{speaker}_{number}.wav", f"{word}/{speaker}_{number}.wav", word)
        for speaker, counts in words.items()
        for word, count in counts.items()
        for number in range(count)
    ]
    clips = split_recordings(recordings).clips
    assert {clip.word for clip in clips if clip.split == "training"} == {"no", "up", "yes", "go"}


def test_each_of_three_speakers_is_in_every_split() -> None:
    """One of them alone would train."""
    recordings = [
        Recording(Path(word) / f"{speaker}_{number}.wav", f"{word}/{speaker}_{number}.wav", word)
        for word in ("yes", "no")
        for speaker in ("anna", "ben", "cleo")
        for number in range(12)
    ]
    split = split_recordings(recordings)
    trained = {clip.speaker for clip in split.clips if clip.split == "training"}
    assert (split.rule, trained) == ("file", {"anna", "ben", "cleo"})


def test_a_speaker_in_another_case_is_the_same_where_a_folder_says_so() -> None:
    recordings = [
        Recording(Path(f"{n}.wav"), f"yes/{speaker}/{n}.wav", "yes", speaker)
        for n, speaker in enumerate(["Anna", "anna", "anna", "ben", "cleo", "dora"])
    ]
    speakers = {clip.speaker for clip in split_recordings(recordings).clips}
    assert speakers == {"anna", "ben", "cleo", "dora"}


def test_the_hash_is_that_of_speech_commands() -> None:
    """By the first bytes of SHA-1("abc") = a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d."""
    assert hash_percent("abc") == pytest.approx(100 * (0x9CD0D89D % 2**27) / (2**27 - 1))


def test_a_tenth_each_is_validation_and_testing() -> None:
    percents: dict[str, list[float]] = {split: [] for split in SPLITS}
    for number in range(20_000):
        percents[hash_split(str(number))].append(hash_percent(str(number)))
    assert max(percents["validation"]) < 10 < min(percents["testing"]) < 10.1
    assert 19.9 < max(percents["testing"]) < 20 < min(percents["training"]) < 20.1


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=4),
        st.sets(st.sampled_from(["auf", "zu", "halt", "los"]), min_size=1),
        min_size=3,
        max_size=30,
    )
)
def test_no_split_is_without_speakers(words_of: dict[str, set[str]]) -> None:
    splits = split_speakers(words_of)
    assert set(splits.values()) == set(SPLITS)
    hashed = {speaker: hash_split(speaker) for speaker in words_of}
    if set(hashed.values()) == set(SPLITS):
        trained = {
            word for who, words in words_of.items() if hashed[who] == "training" for word in words
        }
        few = 2 * list(hashed.values()).count("training") < len(hashed)
        # Moved, if at all, so that a word can be trained, or half of the speakers are.
        for speaker, split in splits.items():
            assert split == hashed[speaker] or (
                split == "training" and (few or words_of[speaker] - trained)
            )
    assert splits == split_speakers(dict(reversed(words_of.items())))


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=3, max_size=30))
def test_every_word_is_in_every_split_where_all_say_all(speakers: set[str]) -> None:
    splits = split_speakers({speaker: {"auf", "zu"} for speaker in speakers})
    assert set(splits.values()) == set(SPLITS)
    if set(map(hash_split, speakers)) != set(SPLITS):
        assert min(list(splits.values()).count(split) for split in SPLITS) == 1
    assert len(speakers) < 4 or 2 * list(splits.values()).count("training") >= len(speakers)


def test_common_names_do_not_leave_one_speaker_to_train_with() -> None:
    """The hashes of anna, ben, dora and emil are all below 20 %."""
    splits = split_speakers({s: {"auf", "zu"} for s in ("anna", "ben", "cleo", "dora", "emil")})
    assert sorted(splits.values()) == ["testing", *["training"] * 3, "validation"]


def in_training(count: int) -> list[str]:
    """Speakers whom the hash puts into training, the lowest hash first."""
    return sorted((s for s in MANY if hash_split(s) == "training"), key=hash_percent)[:count]


def test_splits_get_as_many_speakers_as_their_words_need() -> None:
    """Six training speakers, half say one word, half the other: each split needs one of each."""
    words_of = {s: {"auf" if place % 2 else "zu"} for place, s in enumerate(in_training(6))}
    splits = split_speakers(words_of)
    for split in SPLITS:
        assert {"auf", "zu"} == set().union(*(words_of[n] for n in words_of if splits[n] == split))


def test_speakers_with_most_words_are_moved_first() -> None:
    speakers = in_training(6)
    splits = split_speakers({s: {"auf"} if s == speakers[0] else {"auf", "zu"} for s in speakers})
    assert [splits[s] for s in speakers[:3]] == ["training", "validation", "testing"]
    assert list(splits.values()).count("training") == 4


def test_training_keeps_every_word() -> None:
    """Four speakers, four words, and each speaker lacks another one."""
    words = {"auf", "zu", "halt", "los"}
    words_of = {s: words - {word} for s, word in zip(in_training(4), sorted(words), strict=True)}
    splits = split_speakers(words_of)
    assert sorted(splits.values()) == ["testing", "training", "training", "validation"]
    assert words == set().union(*(words_of[s] for s in words_of if splits[s] == "training"))
