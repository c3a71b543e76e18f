"""The kinds of inputs that come from elsewhere: for each good ones, and how they are made bad."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from fuzz_archives import good_archive, hostile_archive
from fuzz_graphs import mutated_graph
from fuzz_mutations import LETTERS, LITERALS, mutated_bytes, mutated_json, mutated_text
from fuzz_server import Server

RATE = 16_000


@dataclass(frozen=True)
class Case:
    """A command, what comes down its pipe, and the exit codes that it may end with."""

    arguments: list[str]
    codes: Sequence[int]
    stdin: bytes = b""


@dataclass
class Seeds:
    """Good inputs, made once; each case works on copies in a folder of its own.

    Args:
        folder: where they lie.
        model: a trained model (.safetensors) of a classify head; `ctc` one with a CTC head.
        onnx: the first, exported.
        run: a run directory with a checkpoint, whose data are `manifest`.
        manifest: a corpus of few clips.
    """

    folder: Path
    model: Path
    ctc: Path
    onnx: Path
    run: Path
    manifest: Path
    server: Server

    def sounds(self) -> list[Path]:
        """A short recording in each format."""
        made = self.folder / "sounds"
        if not made.exists():
            made.mkdir()
            time_s = np.arange(RATE // 4) / RATE
            samples = (0.3 * np.sin(2 * np.pi * 900 * time_s)).astype(np.float32)
            for name, subtype, channels in _SOUNDS:
                frames = np.tile(samples[:, np.newaxis], channels)
                soundfile.write(made / name, frames, RATE, subtype=subtype)
        return sorted(made.iterdir())


_SOUNDS = (
    *(
        ("a.wav", "PCM_16", 1),
        ("b.wav", "FLOAT", 2),
        ("c.wav", "ULAW", 1),
        ("d.wav", "IMA_ADPCM", 1),
    ),
    *(
        ("e.wav", "PCM_24", 6),
        ("a.flac", "PCM_16", 1),
        ("a.ogg", "VORBIS", 1),
        ("b.ogg", "OPUS", 1),
    ),
    *(("a.mp3", "MPEG_LAYER_III", 1), ("a.aiff", "PCM_16", 1), ("a.au", "PCM_16", 1)),
    *(("a.caf", "PCM_16", 1), ("a.w64", "PCM_16", 1), ("g.wav", "GSM610", 1)),
)

Maker = Callable[[random.Random, Seeds, Path], Case]


def audio(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """A recording, in a file or on a pipe."""
    good, other = rng.choices(seeds.sounds(), k=2)
    content = mutated_bytes(rng, good.read_bytes(), other.read_bytes())
    if rng.random() < 0.2:
        options = rng.choice(([], ["--format", "f32le"], ["--rate", "8000"], ["--channels", "3"]))
        listen = ["listen", str(seeds.onnx), "--input", "-", *options, "--jsonl"]
        return Case(listen, (0, 2, 4), content)
    suffix = rng.choice((good.suffix, good.suffix, other.suffix, ".wav"))
    path = folder / f"clip{suffix}"
    path.write_bytes(content)
    command = rng.choice(
        (
            ["recognize", str(seeds.onnx), str(path)],
            ["recognize", str(seeds.onnx), str(path), "--json"],
            ["listen", str(seeds.onnx), "--input", str(path), "--json"],
        )
    )
    return Case(command, (0, 4))


def models(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """A trained model: its bytes, or its header as JSON."""
    content = rng.choice((seeds.model, seeds.ctc)).read_bytes()
    path = folder / "model.safetensors"
    if rng.random() < 0.6:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        if rng.random() < 0.7:  # our own metadata, JSON within JSON
            own = mutated_json(rng, header["__metadata__"]["speechgru"])
            header["__metadata__"]["speechgru"] = own.decode("utf-8", "replace")
            text = json.dumps(header).encode()
        else:
            text = mutated_json(rng, json.dumps(header))
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    else:
        content = mutated_bytes(rng, content, seeds.onnx.read_bytes())
    path.write_bytes(content)
    return Case(_with_model(rng, seeds, path), (0, 2, 4))


def onnx(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """An exported model: its graph, its metadata, or its bytes."""
    content = seeds.onnx.read_bytes()
    way = rng.random()
    if way < 0.5:
        content = mutated_graph(rng, content)
    elif way < 0.7:
        start = content.find(b"{", content.find(b"speechgru"))
        text = content[start : start + 2_000]
        changed = mutated_text(rng, text.decode("latin-1")).decode("utf-8", "replace")
        # Of the same length, so that the rest of the file is sound.
        same = changed.encode("latin-1", "replace")[: len(text)].ljust(len(text))
        content = content[:start] + same + content[start + len(text) :]
    else:
        content = mutated_bytes(rng, content, seeds.model.read_bytes())
    path = folder / "model.onnx"
    path.write_bytes(content)
    return Case(_with_model(rng, seeds, path), (0, 2, 4))


def recipes(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """A recipe; without data a good one is a usage error."""
    path = folder / "recipe.toml"
    path.write_bytes(mutated_text(rng, (seeds.run / "recipe.toml").read_text()))
    override = ["--set", f"{rng.choice(_KEYS)}={rng.choice(LITERALS + LETTERS)}"]
    options = override if rng.random() < 0.3 else []
    run = ["--out", str(folder / "run"), "--device", "cpu", "--data", str(folder / "none")]
    return Case(["train", str(path), *run, *options], (2, 4))


_KEYS = ("training.epochs", "model.hidden", "data.protocol", "features.mels", "a.b.c", "", "x")


def manifests(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """A manifest of recordings, or a folder of them with odd names."""
    verb = rng.choice(("check", "stats"))
    files = sorted(seeds.manifest.parent.glob("*.wav"))
    if rng.random() < 0.3:
        for file in rng.sample(files, 4):
            content = file.read_bytes()
            _write(rng, folder / "corpus", mutated_bytes(rng, content), file.name)
        return Case(["data", verb, str(folder / "corpus")], (0, 2, 4))
    path = folder / "corpus.csv"
    path.write_bytes(mutated_text(rng, seeds.manifest.read_text()))
    for file in files:
        (folder / file.name).symlink_to(file)
    return Case(["data", verb, str(path)], (0, 2, 4))


def _write(rng: random.Random, folder: Path, content: bytes, name: str) -> None:
    """Write a file into a folder of a hostile name, if the system allows for it."""
    odd = rng.choice((*LETTERS, "_silence_", "_background_noise_", "-1", " ", "\udcff"))
    try:
        word = folder / odd.replace("/", "").replace("\0", "")
        word.mkdir(parents=True, exist_ok=True)
        (word / rng.choice((name, f"{odd[:100].replace('/', '')}.wav", ".wav"))).write_bytes(
            content
        )
    except (OSError, ValueError):  # too long, or with a zero
        _write(rng, folder, content, name)


def grammars(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """Phrases for a CTC decoder."""
    path = folder / "phrases.txt"
    text = "# phrases\nlow (high|mid)\n[low] mid high\n(low|(mid|high)) [low [mid]]\n"
    path.write_bytes(mutated_text(rng, text))
    sound = str(seeds.sounds()[0])
    return Case(["listen", str(seeds.ctc), "--input", sound, "--grammar", str(path)], (0, 2, 4))


def truths(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """The words of a recording and their times."""
    path = folder / "truth.json"
    words = [{"word": "low", "start": 0.0, "end": 0.1}, {"word": "mid", "start": 0.1, "end": 0.2}]
    good = {
        "format": "speechgru-truth",
        "version": 1,
        "duration_s": 0.25,
        "words": words,
        "made": {"seed": 0},
    }
    path.write_bytes(mutated_json(rng, json.dumps(good)))
    sound = next(file for file in seeds.sounds() if file.name == "a.wav")
    options = ["--streaming", "--audio", str(sound), "--truth", str(path)]
    return Case(["evaluate", str(seeds.onnx), *options], (0, 2, 4))


def caches(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """Decoded recordings in the cache, which a crash or another program left damaged."""
    good = seeds.folder / "packed"
    cache = folder / "cache"
    shutil.copytree(good, cache)
    files = [path for path in sorted(cache.rglob("*")) if path.is_file()]
    for path in rng.sample(files, rng.randint(1, len(files))):
        if rng.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(mutated_bytes(rng, path.read_bytes()))
    return Case(["data", "pack", str(seeds.manifest), "--cache", str(cache)], (0, 1))


def checkpoints(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """A run directory that is to be resumed."""
    run = folder / "run"
    shutil.copytree(seeds.run, run)
    path = run / rng.choice(
        ("last/checkpoint.safetensors", "recipe.toml", "metrics.jsonl", "model.safetensors")
    )
    if path.suffix == ".safetensors":
        path.write_bytes(mutated_bytes(rng, path.read_bytes(), seeds.model.read_bytes()))
    else:
        path.write_bytes(mutated_text(rng, path.read_text()))
    # What a changed recipe asks for may be long: the first step is the last.
    return Case(["train", "--resume", str(run), "--device", "cpu"], (0, 1, 2, 4))


def reviews(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """Caught clips with descriptions, notes of an earlier review, and decisions on stdin."""
    caught, data = folder / "caught", folder / "data"
    sound = next(file for file in seeds.sounds() if file.name == "a.wav")
    for word in ("low", "mid"):
        (data / word).mkdir(parents=True)
        (caught / word).mkdir(parents=True)
        shutil.copy(sound, data / word / "own.wav")
        for number in (1, 2):
            shutil.copy(sound, caught / word / f"{number}.wav")
            about = {"word": word, "kind": "event", "score": 0.5, "model": "m", "time": "now"}
            content = mutated_json(rng, json.dumps(about))
            (caught / word / f"{number}.json").write_bytes(content)
    note = {"file": "low/1.wav", "decision": "right", "to": str(data / "low" / "me_1.wav")}
    if rng.random() < 0.5:
        (caught / "review.jsonl").write_bytes(mutated_json(rng, json.dumps(note)) + b"\n{}\n")
    wish = {"file": "mid/1.wav", "decision": "word", "word": "low", "speaker": "ben"}
    lines = [b"right", mutated_json(rng, json.dumps(wish)), b"undo", b"undo", b"noise"]
    rng.shuffle(lines)
    options = ["--json"] if rng.random() < 0.5 else []
    command = ["review", str(caught), "--data", str(data), *options]
    return Case(command, (0, 2, 4), b"\n".join(lines))


def archives(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """The archive of a corpus, whose SHA-256 somebody vouches for."""
    content = hostile_archive(rng) if rng.random() < 0.5 else mutated_bytes(rng, good_archive())
    (folder / "speech_commands_test_set_v0.02.tar.gz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    options = ["--out", str(folder / "corpus"), "--url", "http://127.0.0.1:9/x", "--sha256", digest]
    return Case(["data", "download", "speech-commands-v2-test", *options], (0, 1, 4))


def answers(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """What an HTTP server answers."""
    body = good_archive()
    head = (
        "HTTP/1.1 200 OK\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Content-Type: application/gzip\r\n"
        'ETag: "x"\r\n'
        "\r\n"
    )
    if rng.random() < 0.3:
        head = head.replace("200 OK", rng.choice(_STATUSES))
    if rng.random() < 0.7:
        head = mutated_text(rng, head).decode("utf-8", "replace")
    if rng.random() < 0.3:
        body = mutated_bytes(rng, body)
    seeds.server.answer = head.encode("utf-8", "replace") + body
    options = ["--out", str(folder / "corpus"), "--url", seeds.server.url]
    digest = ["--sha256", hashlib.sha256(good_archive()).hexdigest()]
    return Case(["data", "download", "speech-commands-v2-test", *options, *digest], (0, 1, 2, 4))


_STATUSES = (
    *("301 Moved\r\nLocation: /x", "302 Found\r\nLocation: file:///etc/passwd", "416 Range"),
    *("404 \x1b[2Jgone", "500 Internal", "206 Partial", "206 P\r\nContent-Range: bytes 5-1/0"),
    *("200 " + "x" * 5_000, "999 what", "100 Continue", "304 Not Modified", "abc"),
)

KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        *(audio, models, onnx, recipes, manifests, grammars, truths, caches, checkpoints),
        *(reviews, archives, answers),
    )
}
#: Parts of all inputs; what trains or waits for a network is slower than the rest.
SHARES = {"audio": 8, "models": 6, "onnx": 4, "recipes": 6, "manifests": 4, "grammars": 3,
          "truths": 4, "reviews": 2, "caches": 2, "checkpoints": 1, "archives": 3,
          "answers": 1}  # fmt: skip


def _with_model(rng: random.Random, seeds: Seeds, path: Path) -> list[str]:
    sound = str(seeds.sounds()[0])
    return rng.choice(
        (
            ["info", str(path)],
            ["info", str(path), "--json"],
            ["recognize", str(path), sound],
            ["listen", str(path), "--input", sound],
        )
    )
