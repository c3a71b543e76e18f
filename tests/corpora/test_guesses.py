"""Directories that can be read in two ways: what was guessed, and how to say the other."""

import pytest

from speechgru.corpora import open_corpus
from speechgru.corpora.guesses import layout_guesses

WORDS, WHO = ("yes", "no"), ("anna", "bob", "cleo")


def guesses(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return layout_guesses(open_corpus(root))


def test_a_folder_for_each_word_is_no_guess(tmp_path):
    assert guesses(tmp_path, [f"{word}/{who}_1.wav" for word in WORDS for who in WHO]) == ()


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (
            "{who}/{word}/1.wav",
            "folders in the words' folders are read as speakers: no, yes; if they are the words, "
            "use folders word/speaker/ or a manifest",
        ),
        (
            "my-words/{word}/{who}.wav",
            "my-words is read as the only word, and the folders in it (no, yes) as speakers; if "
            "they are words, name ROOT/my-words instead",
        ),
        (
            "Training/{word}/{who}.wav",
            "Training is read as the only split, and the folders in it (no, yes) as words; if they "
            "are speakers of the word Training, use a manifest",
        ),
    ],
)
def test_folders_in_folders_may_be_words(tmp_path, pattern, sentence):
    names = [pattern.format(who=who, word=word) for word in WORDS for who in WHO]
    assert guesses(tmp_path, names) == (sentence.replace("ROOT", str(tmp_path)),)


def test_splits_with_another_folder_beside_them_are_words(tmp_path):
    names = [f"{split}/{word}/a.wav" for split in ("train", "test") for word in WORDS]
    (found,) = guesses(tmp_path, [*names, "extra/a.wav"])
    assert found.startswith(
        "the folders test, train are read as words, not as splits, because of extra beside them"
    )


def test_names_that_are_nearly_those_of_noise_or_another_word(tmp_path):
    names = [f"{word}/a.wav" for word in ("yes", "Yes", "no", "background noise", "Unknown")]
    assert guesses(tmp_path, names) == (
        "Unknown is read as a word; if it is not one, call its folder _unknown_",
        "background noise is read as a word; if it is not one, call its folder _background_noise_",
        "Yes and yes are read as different words",
    )


def test_spellings_of_one_word_and_folders_of_other_words(tmp_path):
    words = ("hey-ada", "hey_ada", "stop", "stop (1)", "negative")
    assert guesses(tmp_path, [f"{word}/a.wav" for word in words]) == (
        "negative is read as a word; if it is not one, call its folder _unknown_",
        "hey-ada and hey_ada are read as different words",
        "stop and stop (1) are read as different words",
    )


def test_recordings_of_nobody_among_those_of_speakers(tmp_path):
    names = [
        f"{word}/{who}_{take}.wav"
        for word in WORDS
        for who in (*WHO, "dora", "emil")
        for take in (1, 2)
    ]
    (found,) = guesses(tmp_path, [*names, "yes/1.wav", "no/2.wav", "_unknown_/alarm_1.wav"])
    assert found.startswith(
        "no speaker in the names of 2 recordings (no/2.wav), which are split one by one"
    )


def test_words_of_a_manifest_are_compared_too(tmp_path):
    words = ("yes", "Yes", "turn on", "turn\xa0on", "turn on\u200b", "ｎｏ", "no", "Silence")
    rows = [f"{number}.wav,{word}\n" for number, word in enumerate(words)]
    (tmp_path / "list.csv").write_text("file,word\n" + "".join(rows), encoding="utf-8")
    for number in range(len(words)):
        (tmp_path / f"{number}.wav").touch()
    assert set(layout_guesses(open_corpus(tmp_path / "list.csv"))) == {
        "Silence is read as a word; if it is not one, call it _silence_",
        "Yes and yes are read as different words",
        "no and ｎｏ are read as different words",
        "turn on and 'turn on\\u200b' and 'turn\\xa0on' are read as different words",
    }


def test_marks_and_symbols_tell_words_apart(tmp_path):
    words = ("c", "c++", "+", "-", "कि", "की")
    assert guesses(tmp_path, [f"{word}/a.wav" for word in words]) == ()


def test_a_folder_of_recordings_may_be_of_many_words(tmp_path):
    names = [f"recordings/{word}_{who}_1.wav" for word in WORDS for who in WHO]
    assert guesses(tmp_path, names) == (
        "recordings is read as the only word; if the file names hold the words, use a folder for "
        "each word, or a manifest",
    )


def test_folders_beside_lists_may_be_words(tmp_path):
    (tmp_path / "testing_list.txt").write_text("audio/no/anna.wav\n")
    names = [f"audio/{word}/{who}.wav" for word in WORDS for who in WHO]
    assert guesses(tmp_path, names) == (
        "audio is read as the only word; if the folders in it (no, yes) are words, move the lists "
        f"into {tmp_path / 'audio'} and name that instead",
    )
    assert guesses(tmp_path, [name.replace("audio", "more") for name in names]) == (
        "folders in the words' folders are read neither as words nor as speakers: no, yes; if they "
        "are either, use a manifest",
    )
