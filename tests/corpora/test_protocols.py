"""The published counts of each protocol, and that no split hears another's material."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.corpora import PROTOCOLS, SPLITS, Corpus, Task, make_task, open_corpus
from speechgru.corpora.listing import Listing
from speechgru.corpora.protocols import WORDS_V1, WORDS_V2
from speechgru.corpora.speech_commands import read_speech_commands, split_rule
from speechgru.errors import DataError, UsageError
from speechgru.labels import COMMANDS, SILENCE, UNKNOWN

#: Clips of the official test archive (Warden, 2018), in the order of COMMANDS.
ARCHIVE_V2 = (419, 405, 425, 406, 412, 396, 396, 402, 411, 402)


def shares(total: int, parts: int) -> list[int]:
    """`total` in nearly equal parts."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def corpus_of(
    root: Path, words: tuple[str, ...], commands: dict[str, int], all_: dict[str, int]
) -> Corpus:
    """A corpus with so many clips of commands, and of all words, in each split.

    Its lists are files; its 100,000 clips are names alone.
    """
    others = [word for word in words if word not in COMMANDS]
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    number = 0
    for split in SPLITS:
        counts = [*shares(commands[split], 10), *shares(all_[split] - commands[split], len(others))]
        for word, count in zip((*COMMANDS, *others), counts, strict=True):
            for _ in range(count):
                lists[split].append(f"{word}/{number:08x}_nohash_0.wav")
                number += 1
    folders: dict[str, list[str]] = {word: [] for word in words}
    for name in (name for names in lists.values() for name in names):
        word, _, file = name.partition("/")
        folders[word].append(file)
    for split in ("validation", "testing"):
        (root / f"{split}_list.txt").write_text("\n".join(lists[split]) + "\n")
    noises = (root / "dishes.wav", root / "tap.wav")
    for noise in noises:
        soundfile.write(noise, np.zeros(8_000 * 30, np.int16), 8_000)
    listing = Listing(folders, [])
    rule = split_rule(root, listing)
    assert rule == "lists"
    return read_speech_commands(root, listing, noises, rule)


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("v0.02")
    commands = {"training": 30_769, "validation": 3_703, "testing": 4_074}
    all_ = {"training": 84_843, "validation": 9_981, "testing": 11_005}
    return corpus_of(root, WORDS_V2, commands, all_)


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("v0.01")
    commands = {"training": 18_538, "validation": 2_577, "testing": 2_567}
    all_ = {"training": 51_088, "validation": 6_798, "testing": 6_835}
    return corpus_of(root, WORDS_V1, commands, all_)


def counts(task: Task) -> tuple[int, ...]:
    return tuple(len(task.splits[split]) for split in SPLITS)


def test_v2_35(v2: Corpus) -> None:
    task = make_task("v2-35", v2)
    assert len(v2.clips) == 105_829
    assert counts(task) == (84_843, 9_981, 11_005)
    assert task.labels == tuple(sorted(WORDS_V2))
    assert len(task.labels) == 35
    assert all(example.label == example.word for example in task.split("testing"))


def test_v1_30(v1: Corpus) -> None:
    """64,727 recordings, six of which are background noise in the archive."""
    task = make_task("v1-30", v1)
    assert len(v1.clips) == 64_727 - 6
    assert counts(task) == (51_088, 6_798, 6_835)
    assert len(task.labels) == 30


def test_v2_12(v2: Corpus) -> None:
    task = make_task("v2-12", v2)
    assert counts(task) == (36_923, 4_445, 4_890)
    check_tensorflow_style(task, 408)


def test_v1_12(v1: Corpus) -> None:
    task = make_task("v1-12", v1)
    assert counts(task) == (22_246, 3_093, 3_081)
    check_tensorflow_style(task, 257)


def check_tensorflow_style(task: Task, tenth_of_testing: int) -> None:
    assert task.labels == (SILENCE, UNKNOWN, *COMMANDS)
    labels = Counter(example.label for example in task.split("testing"))
    assert (labels[SILENCE], labels[UNKNOWN]) == (tenth_of_testing, tenth_of_testing)
    for split in SPLITS:
        silence = [example for example in task.split(split) if example.label == SILENCE]
        assert {example.path is None for example in silence} == {split != "training"}
        unknown = [example for example in task.split(split) if example.label == UNKNOWN]
        assert len(unknown) == len(silence) == len(set(unknown))
        assert not {example.word for example in unknown} & set(COMMANDS)


def test_v2_12_official(v2: Corpus, tmp_path: Path) -> None:
    """Trained as v2-12; tested on the archive, which says itself what silence and unknown are."""
    assert counts(make_task("v2-12-official", v2)) == (36_923, 4_445, 0)
    archive = dict(zip((*COMMANDS, SILENCE, UNKNOWN), (*ARCHIVE_V2, 408, 408), strict=True))
    for word, count in archive.items():
        (tmp_path / word).mkdir()
        for number in range(count):
            (tmp_path / word / f"{number:08x}_nohash_0.wav").touch()
    corpus = open_corpus(tmp_path)
    task = make_task("v2-12-official", corpus)
    assert counts(task) == (0, 0, 4_890)
    assert Counter(example.label for example in task.split("testing")) == archive
    assert task.splits == make_task("commands-12", corpus).splits
    with pytest.raises(DataError, match="v2-12-official: the training split has no clips"):
        task.split("training")
    with pytest.raises(DataError, match=r"official test archive .* with protocol v2-12-official"):
        make_task("v2-12", corpus)


def test_unknown_words_are_chosen_by_the_seed(v1: Corpus) -> None:
    def unknown(seed: int) -> set[Path | None]:
        task = make_task("v1-12", v1, seed)
        return {example.path for example in task.split("training") if example.label == UNKNOWN}

    assert unknown(1) == unknown(1) != unknown(2)


def test_commands_12_on_gsc_open(gsc_open: Path) -> None:
    """Against a count of the directory that shares no code with the package."""
    listed = {
        split: set((gsc_open / f"{split}_list.txt").read_text().split())
        for split in ("validation", "testing")
    }
    files = [path.relative_to(gsc_open).as_posix() for path in gsc_open.glob("[a-z]*/*.flac")]
    listed["training"] = set(files) - listed["validation"] - listed["testing"]
    task = make_task("commands-12", open_corpus(gsc_open))
    for split in SPLITS:
        words = Counter(name.split("/")[0] for name in listed[split])
        labels = Counter(example.label for example in task.split(split))
        spoken = sum(words[word] for word in COMMANDS)
        assert {word: labels[word] for word in COMMANDS} == {w: words[w] for w in COMMANDS}
        assert labels[UNKNOWN] == words.total() - spoken
        assert labels[SILENCE] == (46 if split == "testing" else -(-spoken // 10))
    assert counts(task)[2] == 479 + 46


@pytest.mark.parametrize("silence", [True, False])
def test_splits_share_no_noise(gsc_open: Path, tmp_path: Path, silence: bool) -> None:
    root = gsc_open
    if not silence:
        for path in gsc_open.iterdir():
            if path.name != "_silence_":
                (tmp_path / path.name).symlink_to(path)
        root = tmp_path
    task = make_task("commands-12", open_corpus(root))
    ends = {}
    for split in SPLITS:
        cuts = [e for e in task.split(split) if e.label == SILENCE and e.start_s is not None]
        assert bool(cuts) == (split != "testing" or not silence)
        for cut in cuts:
            assert cut.path is not None
            assert cut.start_s is not None
            assert cut.start_s >= ends.get(cut.path, 0.0)
        for cut in cuts:
            duration_s = soundfile.info(cut.path).duration
            assert cut.start_s + 1.0 <= duration_s
        last = {cut.path: 0.0 for cut in cuts}
        for cut in cuts:
            last[cut.path] = max(last[cut.path], cut.start_s + 1.0)
        ends |= last
    assert len(ends) == 6


def test_without_long_enough_noise_silence_is_digital(gsc_open: Path, tmp_path: Path) -> None:
    for word in COMMANDS:
        (tmp_path / word).symlink_to(gsc_open / word)
    (tmp_path / "_background_noise_").mkdir()
    soundfile.write(tmp_path / "_background_noise_" / "tap.wav", np.zeros(3_000), 8_000)
    silence = [e for e in make_task("v2-12", open_corpus(tmp_path)).split("training") if not e.path]
    assert {(example.label, example.start_s) for example in silence} == {(SILENCE, None)}


def test_folder_takes_every_word_and_fits_the_clips(fsdd: Path) -> None:
    corpus = open_corpus(fsdd)
    task = make_task("folder", corpus)
    assert task.labels == (SILENCE, UNKNOWN, *corpus.words)
    words = [e for split in SPLITS for e in task.split(split) if e.label in corpus.words]
    assert len(words) == 3_000
    paths = [e.path for e in task.split("training") if e.path]
    durations_s = [soundfile.info(path).duration for path in paths]
    assert 0.93 <= np.mean(np.array(durations_s) <= task.clip_s) < 0.99
    assert task.clip_s * 10 == pytest.approx(round(task.clip_s * 10))


def test_folder_takes_some_words_in_their_order_and_the_others_as_unknown(fsdd: Path) -> None:
    corpus = open_corpus(fsdd)
    task = make_task("folder", corpus, words=["two", "one"])
    assert task.labels == (SILENCE, UNKNOWN, "two", "one")
    labels = {split: Counter(e.label for e in task.split(split)) for split in SPLITS}
    assert sum(labels[split]["two"] + labels[split]["one"] for split in SPLITS) == 600
    of_others = [c for c in corpus.split("training") if c.word not in ("two", "one")]
    unknown = [e for e in task.split("training") if e.label == UNKNOWN]
    assert [(e.path, e.word) for e in unknown] == [(c.path, c.word) for c in of_others]


def test_only_words_are_scored(fsdd: Path) -> None:
    """Silence and other speech are trained on, so that words do not fire on them in a stream."""
    task = make_task("folder", open_corpus(fsdd))
    labels = {split: Counter(e.label for e in task.split(split)) for split in SPLITS}
    spoken = labels["training"].total() - labels["training"][SILENCE]
    assert labels["training"][SILENCE] == -(-spoken // 10)
    for split in ("validation", "testing"):
        assert not labels[split].keys() & {SILENCE, UNKNOWN}


def test_folder_trains_on_recorded_silence_unknown_speech_and_noise(tmp_path: Path) -> None:
    folders = ("auf", "zu", SILENCE, UNKNOWN, "_other_", "_background_noise_")
    for folder in folders:
        (tmp_path / folder).mkdir()
        for speaker in ("anna", "boris", "clara", "dora", "emil", "fred"):
            path = tmp_path / folder / f"{speaker}_1.wav"
            soundfile.write(path, np.zeros(8_000 * (6 if "noise" in folder else 2)), 8_000)
    task = make_task("folder", open_corpus(tmp_path))
    training = task.split("training")
    speakers = {e.speaker for e in training if e.label == "auf"}
    for label in (SILENCE, UNKNOWN):  # the words' own speakers: the others stay unheard
        found = {(e.path.parent.name, e.speaker) for e in training if e.label == label and e.path}
        assert found == {(label, speaker) for speaker in speakers}
    assert not any(e.path and e.path.parent.name == "_other_" for e in training)
    shutil.rmtree(tmp_path / SILENCE)
    task = make_task("folder", open_corpus(tmp_path))
    silence = [e for e in task.split("training") if e.label == SILENCE]
    assert {e.path.parent.name for e in silence if e.path} == {"_background_noise_"}
    # Clips of two seconds out of the training part of six.
    assert task.clip_s == 2.0
    assert all(e.start_s is not None and e.start_s + 2.0 <= 0.8 * 6.0 for e in silence)


def test_long_recordings_of_other_speech_are_cut(tmp_path: Path) -> None:
    durations_s = {"auf": 0.8, "zu": 0.8, UNKNOWN: 5.5}
    for folder, duration_s in durations_s.items():
        (tmp_path / folder).mkdir()
        for n in range(4):
            path = tmp_path / folder / f"{n}.wav"
            soundfile.write(path, np.zeros(round(8_000 * duration_s)), 8_000)
    brief = tmp_path / UNKNOWN / "brief.wav"
    soundfile.write(brief, np.zeros(8_000), 8_000)
    task = make_task("folder", open_corpus(tmp_path))
    assert task.clip_s == 0.8
    starts_s: dict[Path | None, list[float | None]] = {}
    for example in task.split("training"):
        if example.label == UNKNOWN:
            starts_s.setdefault(example.path, []).append(example.start_s)
    assert starts_s.pop(brief, [None]) == [None]
    assert starts_s
    for several in starts_s.values():
        assert several == pytest.approx([0.0, 0.8, 1.6, 2.4, 3.2, 4.0])


@pytest.mark.parametrize(("speakers", "used"), [(1, 15), (6, 11)])
def test_other_speech_is_all_for_training_unless_its_speakers_validate(
    tmp_path: Path, speakers: int, used: int
) -> None:
    """Nobody else would hear it; but speakers whose words are tested, here two, stay unheard."""
    for folder in ("auf", "zu", UNKNOWN):
        (tmp_path / folder).mkdir()
        for n in range(12):
            path = tmp_path / folder / f"{'abcdef'[n % speakers]}{'x' * 3}_{n}.wav"
            soundfile.write(path, np.full(8_000, n / 50), 8_000)
    for name in ("rec1", "rec2", "julia_1"):  # of nobody, and of one who says no words
        soundfile.write(tmp_path / UNKNOWN / f"{name}.wav", np.full(8_000, 0.5), 8_000)
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == ("file" if speakers == 1 else "speaker")
    others = [e for e in make_task("folder", corpus).split("training") if e.label == UNKNOWN]
    assert len(others) == used


@pytest.mark.parametrize(
    ("duration_s", "clip_s"), [(0.1, 0.5), (0.7, 0.7), (0.71, 0.8), (9.0, 5.0)]
)
def test_clips_are_half_a_second_to_five(tmp_path: Path, duration_s: float, clip_s: float) -> None:
    for word in ("auf", "zu"):
        (tmp_path / word).mkdir()
        for n in range(3):
            soundfile.write(
                tmp_path / word / f"{n}.wav", np.zeros(round(8_000 * duration_s)), 8_000
            )
    assert make_task("folder", open_corpus(tmp_path)).clip_s == clip_s


def test_of_few_recordings_the_longest_decides(tmp_path: Path) -> None:
    for word in ("auf", "zu"):
        (tmp_path / word).mkdir()
        for n in range(40):
            duration_s = 0.9 if n == 7 else 0.4
            path = tmp_path / word / f"anna_{n}.wav"
            soundfile.write(path, np.zeros(round(8_000 * duration_s)), 8_000)
    corpus = open_corpus(tmp_path)
    assert any(clip.path.name == "anna_7.wav" for clip in corpus.split("training"))
    assert make_task("folder", corpus).clip_s == 0.9


def test_errors_name_what_is_missing(fsdd: Path, v1: Corpus) -> None:
    digits = open_corpus(fsdd)
    with pytest.raises(UsageError, match=r"protocol 'v2-21' is unknown \(did you mean 'v2-12'"):
        make_task("v2-21", digits)
    with pytest.raises(DataError, match=r"needs 10 words; there are no clips of yes, no, up"):
        make_task("commands-12", digits)
    with pytest.raises(DataError, match=r"v2-35 needs 35 words; .* backward, follow, forward,"):
        make_task("v2-35", v1)
    with pytest.raises(DataError, match="there are no clips of eleven"):
        make_task("folder", digits, words=["one", "eleven"])
    with pytest.raises(UsageError, match="at least one is needed, each once"):
        make_task("folder", digits, words=["one", "one"])
    with pytest.raises(UsageError, match="only protocol folder takes words"):
        make_task("v1-30", v1, words=["one", "two"])


def test_a_single_word_is_a_task(fsdd: Path) -> None:
    task = make_task("folder", open_corpus(fsdd), words=["one"])
    assert task.labels == (SILENCE, UNKNOWN, "one")
    assert {e.label for e in task.split("training")} == {"one", SILENCE, UNKNOWN}


def test_clips_of_long_recordings_are_as_long_as_the_speech(tmp_path: Path) -> None:
    """3 s recordings of a word of half a second, and of a phrase with pauses."""
    rng = np.random.default_rng(0)
    word = rng.normal(0, 0.2, 8000)
    pause, still = np.zeros(8000), np.zeros(16000)
    sounds = {
        "word": [still, word, still, pause],
        "phrase": [pause, word, pause, word, pause, word, pause],
    }
    for corpus, parts in sounds.items():
        for name in ("anna_1", "ben_1", "cleo_1"):
            path = tmp_path / corpus / "lumos" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = np.concatenate(parts) + rng.normal(0, 0.001, sum(map(len, parts)))
            soundfile.write(path, sound, 16_000)
    assert make_task("folder", open_corpus(tmp_path / "word")).clip_s == pytest.approx(1.0, abs=0.1)
    assert make_task("folder", open_corpus(tmp_path / "phrase")).clip_s == pytest.approx(
        3.0, abs=0.1
    )


def test_each_protocol_has_a_description() -> None:
    names = {"v2-35", "v2-12", "v2-12-official", "v1-30", "v1-12", "folder", "commands-12"}
    assert set(PROTOCOLS) == names
    assert all(line and "\n" not in line for line in PROTOCOLS.values())
