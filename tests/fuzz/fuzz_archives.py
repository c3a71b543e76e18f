"""Archives of a corpus: a good one, and others that only look like one."""

import io
import random
import tarfile


def good_archive() -> bytes:
    """Two recordings of two words."""
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


def hostile_archive(rng: random.Random) -> bytes:
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
