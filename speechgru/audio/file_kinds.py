"""What kind of file some bytes are the beginning of."""

#: First bytes of files that have to be decoded before they come down a pipe.
_MAGIC = {
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"FORM": "an AIFF file",
    b".snd": "an AU file",
    b"caff": "a CAF file",
    b"riff": "a W64 file",
    b"RIFX": "a big-endian WAV file",
    b"\x1aE\xdf\xa3": "a WebM or Matroska file",
    b"\x1f\x8b\x08": "a gzip file",
    b"PK\x03\x04": "a zip file",
    b"NIST_1A\n": "a NIST SPHERE file",
    b"Creative Voice File": "a VOC file",
    b"#!AMR": "an AMR file",
    b"\x30\x26\xb2\x75": "a WMA file",
}
_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def kind_of_file(start: bytes) -> str | None:
    """What a file is by its first bytes; None where they may be PCM."""
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[4:8] == b"ftyp":
        return "an MP4 file"
    if _has_mpeg_frames(start):
        return "an MP3 or AAC file"
    return None


def _has_mpeg_frames(start: bytes) -> bool:
    """Whether MPEG audio starts here: a frame's header, and another one where the frame ends."""
    size = _mpeg_frame_bytes(start)
    return size is not None and _mpeg_frame_bytes(start[size:]) is not None


def _mpeg_frame_bytes(content: bytes) -> int | None:
    """The size of a frame of MP3, or of AAC in ADTS; None where there is none.

    ISO/IEC 11172-3 (layer III) and 14496-3 (ADTS).
    """
    if len(content) < 6 or content[0] != 0xFF or content[1] & 0xE0 != 0xE0:
        return None
    version, layer = content[1] >> 3 & 3, content[1] >> 1 & 3
    if layer == 0:  # ADTS
        size = (content[3] & 3) << 11 | content[4] << 3 | content[5] >> 5
        return size if content[1] & 0xF0 == 0xF0 and size >= 7 else None
    bitrate, rate, padding = content[2] >> 4, content[2] >> 2 & 3, content[2] >> 1 & 1
    if layer != 1 or version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    is_mpeg1 = version == 3
    kbps = (_KBPS_1 if is_mpeg1 else _KBPS_2)[bitrate - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if is_mpeg1 else 72) * kbps * 1_000 // hertz + padding


def is_text(start: bytes) -> bool:
    """Whether these are at least 16 bytes of text in UTF-8; its last character may be cut."""
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode()
    return len(start) >= 16 and all(c.isprintable() or c in "\t\n\r" for c in text)
