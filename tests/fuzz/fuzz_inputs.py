"""The kinds of inputs that come from elsewhere: for each good ones, and how they are made bad."""

import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from fuzz_mutations import LETTERS, LITERALS, mutated_bytes, mutated_text
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
            own = _mutated_json(rng, header["__metadata__"]["speechgru"])
            header["__metadata__"]["speechgru"] = own.decode("utf-8", "replace")
            text = json.dumps(header).encode()
        else:
            text = _mutated_json(rng, json.dumps(header))
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    else:
        content = mutated_bytes(rng, content, seeds.onnx.read_bytes())
    path.write_bytes(content)
    return Case(_with_model(rng, seeds, path), (0, 2, 4))


def onnx(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """An exported model: its bytes, or its metadata."""
    content = seeds.onnx.read_bytes()
    if rng.random() < 0.4:
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
    path = folder / "corpus.csv"
    path.write_bytes(mutated_text(rng, seeds.manifest.read_text()))
    for file in seeds.manifest.parent.glob("*.wav"):
        (folder / file.name).symlink_to(file)
    verb = rng.choice(("check", "stats"))
    return Case(["data", verb, str(path)], (0, 2, 4))


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
    good = {"audio": "a.wav", "duration_s": 0.25, "words": words, "made": {"seed": 0}}
    path.write_bytes(_mutated_json(rng, json.dumps(good)))
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


def archives(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """The archive of a corpus, whose SHA-256 somebody vouches for."""
    content = _archive(rng) if rng.random() < 0.5 else mutated_bytes(rng, _good_archive())
    (folder / "speech_commands_test_set_v0.02.tar.gz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    options = ["--out", str(folder / "corpus"), "--url", "http://127.0.0.1:9/x", "--sha256", digest]
    return Case(["data", "download", "speech-commands-v2-test", *options], (0, 1, 4))


def answers(rng: random.Random, seeds: Seeds, folder: Path) -> Case:
    """What an HTTP server answers."""
    body = _good_archive()
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
    digest = ["--sha256", hashlib.sha256(_good_archive()).hexdigest()]
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
        *(archives, answers),
    )
}
#: Parts of all inputs; what trains or waits for a network is slower than the rest.
SHARES = {"audio": 8, "models": 6, "onnx": 4, "recipes": 6, "manifests": 4, "grammars": 3,
          "truths": 4, "caches": 2, "checkpoints": 1, "archives": 3, "answers": 1}  # fmt: skip


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


def _mutated_json(rng: random.Random, text: str) -> bytes:
    """JSON with another value at some place, or the text changed."""
    if rng.random() < 0.4:
        return mutated_text(rng, text)
    value = json.loads(text)
    holder, key = _some_place(rng, value)
    if holder is None:
        return mutated_text(rng, text)
    holder[key] = rng.choice(_VALUES)
    if rng.random() < 0.2 and isinstance(holder, dict):
        holder[rng.choice(LETTERS)] = holder.pop(key)
    return json.dumps(value).encode()


_VALUES = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**200, 1e308, 0.5, -0.5, float("nan"), float("inf")),
    *("", "x" * 10_000, [], {}, [[]], [None], ["a", "a"], {"a": {}}, [1, "x"], "\x1b[2J\n"),
    *([0] * 1_000, {"": ""}, [1e18], "日本", ["_silence_"], ["low"] * 3),
)


def _some_place(rng: random.Random, value: object) -> tuple[object, object]:
    """A container somewhere in a value, and a key of it."""
    places: list[tuple[object, object]] = []

    def visit(node: object) -> None:
        pairs = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node if isinstance(node, list) else ())
        )
        for key, below in pairs:
            places.append((node, key))
            visit(below)

    visit(value)
    return rng.choice(places) if places else (None, None)


def _good_archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in ("yes/a_nohash_0.wav", "no/b_nohash_0.wav"):
            _add(archive, name, b"RIFF" + bytes(100))
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


def _archive(rng: random.Random) -> bytes:
    """An archive whose members are not what they should be."""
    file = io.BytesIO()
    names = ("../out.wav", "/etc/x.wav", "a/../../b.wav", "C:\\x.wav", "yes/a.wav", ".", "", "yes",
             "yes/a.wav/b.wav", "yes/\x1b[2J.wav", "y" * 5_000, "d/" * 500 + "a.wav")  # fmt: skip
    types = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
             tarfile.CHRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE)  # fmt: skip
    with tarfile.open(
        fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT
    ) as archive:
        for _ in range(rng.randint(1, 5)):
            _add(
                *(archive, rng.choice(names), rng.randbytes(rng.choice((0, 10, 1_000)))),
                type=rng.choice(types),
                linkname=rng.choice(names),
                mode=rng.choice((0o644, 0, 0o4777)),
                mtime=rng.choice((0, 2**33, 1)),
                pax_headers=rng.choice(
                    ({}, {"comment": "x" * 100_000}, {"size": "-5"}, {"path": "../y"})
                ),
            )
    return file.getvalue()
