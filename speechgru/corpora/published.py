"""Public corpora: where their archives are, and by what they are known."""

from dataclasses import dataclass

_HOST = "https://storage.googleapis.com/download.tensorflow.org/data"
#: A second of 16-bit audio at 16 kHz with its header, in whole blocks of a disk.
_CLIP_BYTES = 32_768
#: Background recordings, lists, licence, and room to spare.
_EXTRA_BYTES = 32_000_000


@dataclass(frozen=True)
class Source:
    """One archive as it was published."""

    name: str
    url: str
    sha256: str
    size_bytes: int
    clips: int

    @property
    def unpacked_bytes(self) -> int:
        """About what its files take on a disk: clips of at most one second."""
        return self.clips * _CLIP_BYTES + _EXTRA_BYTES


#: Warden (2018), https://arxiv.org/abs/1804.03209.
SOURCES = {
    source.name: source
    for source in (
        Source(
            "speech-commands-v1",
            f"{_HOST}/speech_commands_v0.01.tar.gz",
            "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
            size_bytes=1_489_096_277,
            clips=64_727,
        ),
        Source(
            "speech-commands-v2",
            f"{_HOST}/speech_commands_v0.02.tar.gz",
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            size_bytes=2_428_923_189,
            clips=105_829,
        ),
        Source(
            "speech-commands-v2-test",
            f"{_HOST}/speech_commands_test_set_v0.02.tar.gz",
            "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
            size_bytes=112_563_277,
            clips=4_890,
        ),
    )
}
