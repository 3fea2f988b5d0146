"""Uploads that no server should take at its word: each is what a request sends and the codes that may answer it."""

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from onereward.edit.jobs import data_url
from tests.pictures import noise
from tests.serve.edits import FIELDS, FILL, MASK, PHOTO, SIZE, file_of

REFUSED = (413, 415, 422)
ANY = (202, 413, 422, 429)
"""For what may be harmless by chance; whether an accepted one is then made is for the test to look at."""

_JSON = {"Content-Type": "application/json"}
_BOMB_SIDE = 50_000
_BOUNDARY = "multipart/form-data; boundary=b"


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """A kind, what httpx.post takes, and the codes that may answer."""

    kind: str
    request: dict[str, Any]
    codes: tuple[int, ...]


def malformed(seed: int, count: int, most_bytes: int) -> Iterator[Malformed]:
    """`count` uploads, every kind in turn, for a server that takes `most_bytes` a request."""
    dice = random.Random(seed)
    kinds: list[Callable[[random.Random, int], Malformed]] = [
        _wrong_header,
        _truncated,
        _bomb,
        _text_bomb,
        _garbage_chunk,
        _wrong_exif,
        _wrong_content_type,
        _compressed,
        _deep_json,
        _odd_json,
        _wide_json,
        *[_large_picture] * 4,  # enough bytes to notice if they stay
        _too_large,
        _damaged_form,
        _many_fields,
        _odd_names,
        _path,
        _huge_canvas,
    ]
    for index in range(count):
        yield kinds[index % len(kinds)](dice, most_bytes)


def _as_form(kind: str, image: bytes, codes: tuple[int, ...]) -> Malformed:
    return Malformed(kind=kind, request={"data": FIELDS, "files": {"image": image, "mask": MASK}}, codes=codes)


def _as_json(kind: str, body: bytes, codes: tuple[int, ...] = (422,)) -> Malformed:
    return Malformed(kind=kind, request={"content": body, "headers": _JSON}, codes=codes)


def _picture(dice: random.Random) -> bytes:
    return file_of(noise(*SIZE), dice.choice(["PNG", "JPEG", "WEBP"]))


def _wrong_header(dice: random.Random, _most: int) -> Malformed:
    file = bytearray(_picture(dice))
    for _ in range(dice.randint(1, 8)):
        file[dice.randrange(min(64, len(file)))] = dice.randrange(256)
    return _as_form("wrong header", bytes(file), ANY)


def _truncated(dice: random.Random, _most: int) -> Malformed:
    file = _picture(dice)
    return _as_form("truncated", file[: dice.randrange(len(file) // 2)], REFUSED)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(2**20), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(more) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    )


def _webp_bomb() -> bytes:
    """A still WebP whose header says 16,383 x 16,383, the largest that WebP has."""
    side = struct.pack("<I", (16382 << 14 | 16382))
    body = b"VP8L" + struct.pack("<I", 16) + b"\x2f" + side + bytes(11)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _tiff_bomb() -> bytes:
    file = bytearray(file_of(Image.new("L", (8, 8)), "TIFF"))
    for tag in (256, 257):  # width, height
        at = file.find(struct.pack("<H", tag), 8)
        file[at : at + 12] = struct.pack("<HHII", tag, 4, 1, _BOMB_SIDE)
    return bytes(file)


def _jpeg_bomb() -> bytes:
    file = bytearray(file_of(Image.new("L", (8, 8)), "JPEG"))
    at = file.find(b"\xff\xc0")
    file[at + 5 : at + 9] = struct.pack(">HH", _BOMB_SIDE, _BOMB_SIDE)
    return bytes(file)


def _bomb(dice: random.Random, _most: int) -> Malformed:
    bombs = [_png(_BOMB_SIDE, _BOMB_SIDE), _webp_bomb(), _tiff_bomb(), _jpeg_bomb(), _png(2**31 - 1, 1)]
    file = dice.choice(bombs)
    assert len(file) < 5000
    if dice.random() < 0.5:
        return _as_form("decompression bomb", file, (422,))
    where = dice.choice(["image", "mask"])
    return _as_json("decompression bomb", json.dumps({**FILL, where: data_url(file)}).encode())


def _text_bomb(dice: random.Random, _most: int) -> Malformed:
    """Small pixels and a text, a profile or metadata that unfolds to 64 MB."""
    packed = zlib.compress(bytes(2**26), 9)
    name, data = dice.choice([(b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")])
    return _as_form("text bomb", _png(*SIZE, _chunk(name, data + packed)), ANY)


def _garbage_chunk(dice: random.Random, _most: int) -> Malformed:
    name = bytes(dice.choices(b"ABCDabcd", k=4))
    return _as_form("garbage chunk", _png(*SIZE, _chunk(name, dice.randbytes(dice.randrange(5000)))), ANY)


def _wrong_exif(dice: random.Random, _most: int) -> Malformed:
    exif = b"Exif\0\0" + dice.choice([b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b""]) + dice.randbytes(200)
    file_format = dice.choice(["PNG", "JPEG", "WEBP"])
    return _as_form("wrong EXIF", file_of(noise(*SIZE), file_format, exif=exif), ANY)


def _wrong_content_type(dice: random.Random, _most: int) -> Malformed:
    kind = dice.choice(["image/png", "text/plain", "application/x-python-pickle", "application/xml", "", "a/b;" * 500])
    request = {"content": dice.choice([PHOTO, json.dumps(FILL).encode()]), "headers": {"Content-Type": kind}}
    return Malformed(kind="wrong content type", request=request, codes=(415,))


def _compressed(dice: random.Random, _most: int) -> Malformed:
    body = gzip.compress(bytes(2**22))
    headers = {**_JSON, "Content-Encoding": dice.choice(["gzip", "deflate", "br", "GZIP", "gzip, gzip"])}
    return Malformed(kind="compressed", request={"content": body, "headers": headers}, codes=(415,))


def _deep_json(dice: random.Random, _most: int) -> Malformed:
    opening = dice.choice([b"[", b'{"image":', b'{"task":"fill","prompt":['])
    return _as_json("deep JSON", opening * dice.choice([150, 10_000, 100_000]))


def _odd_json(dice: random.Random, _most: int) -> Malformed:
    start = json.dumps(FILL).encode()[:-1]
    odd = [
        start + b', "seed": 1e999}',
        start + b', "seed": ' + b"9" * 100_000 + b"}",
        start + b', "guidance": NaN}',
        start + b', "guidance": -Infinity}',
        start + b', "prompt": "\\ud800"}',
        start + b', "prompt": "\xff\xfe"}',
        start + b', "\\u0000": 1}',
        start + b', "\xc3\xa9' + b"a" * 100_000 + b'": 1}',
        start,
        b"\x00" * 1000,
        b"",
        b"\xef\xbb\xbf",
        json.dumps(FILL).encode("utf-16"),
        json.dumps({**FILL, "image": "data:;base64," + "=" * 99}).encode(),
        json.dumps({**FILL, "image": "data:;base64,\u00e9"}).encode(),
        json.dumps({**FILL, "task": "x" * 500_000}).encode(),
    ]
    return _as_json("odd JSON", dice.choice(odd))


def _wide_json(dice: random.Random, most: int) -> Malformed:
    many = {f"{index}": index for index in range(100_000)}
    numbers = [dice.random() for _ in range(100_000)]
    wide = [{**FILL, **many}, {**FILL, "prompt": numbers}, {**FILL, "prompt": "x" * (most // 2)}]
    return _as_json("wide JSON", json.dumps(dice.choice(wide)).encode())


def _large_picture(dice: random.Random, most: int) -> Malformed:
    """As many bytes as are taken, of no picture."""
    return _as_form("large picture", b"\x89PNG\r\n\x1a\n" + dice.randbytes(most - 10_000), (422,))


def _too_large(dice: random.Random, most: int) -> Malformed:
    if dice.random() < 0.5:
        return _as_form("too large", dice.randbytes(most + 1), (413,))
    chunk = bytes(2**16)
    chunks = (chunk for _ in range(most // len(chunk) + 2))  # without a Content-Length
    return Malformed(kind="too large", request={"content": chunks, "headers": _JSON}, codes=(413,))


def _damaged_form(dice: random.Random, _most: int) -> Malformed:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + PHOTO + b"\r\n"
    bodies = [
        b"",
        part,
        part[:40],
        b"--b--\r\n",
        b"--c\r\n" + part,
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"X" * 100_000 + b": y\r\n\r\n",
        b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b'--b\r\nContent-Disposition: form-data; name="\xff\x00"\r\n\r\nx\r\n--b--\r\n',
        b"\r\n" * 10_000,
        dice.randbytes(1000),
    ]
    content_type = dice.choice(
        [
            _BOUNDARY,
            _BOUNDARY,
            "multipart/form-data",
            'multipart/form-data; boundary="',
            "multipart/form-data; boundary=" + "b" * 5000,
        ]
    )
    request = {"content": dice.choice(bodies), "headers": {"Content-Type": content_type}}
    return Malformed(kind="damaged form", request=request, codes=(422,))


def _many_fields(dice: random.Random, _most: int) -> Malformed:
    fields = {f"field{index}": "x" for index in range(dice.choice([40, 5000]))}
    return Malformed(
        kind="many fields", request={"data": fields, "files": {"image": PHOTO, "mask": MASK}}, codes=(422,)
    )


def _odd_names(dice: random.Random, _most: int) -> Malformed:
    name = dice.choice(["../../../../tmp/x", "/etc/passwd", "C:\\x", "a" * 5000, "\x00", "%s%n", "é\u202e.png", ""])
    fields = {"task": "fill", dice.choice(["../prompt", "prompt\x00", "image[]", "__class__"]): "x"}
    request = {"data": fields, "files": {"image": (name, PHOTO), "mask": (name, MASK)}}
    return Malformed(kind="odd names", request=request, codes=(422,))


def _path(dice: random.Random, _most: int) -> Malformed:
    path = dice.choice(
        ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/", "~/x.png", "data:,x", "data:", "", "\\\\x\\y"]
    )
    return _as_json("path", json.dumps({**FILL, dice.choice(["image", "mask"]): path}).encode())


def _huge_canvas(dice: random.Random, _most: int) -> Malformed:
    size = dice.choice([{"size": "99999x99999"}, {"left": 100_000, "top": 100_000}, {"ratio": "1:999999"}])
    body = {"image": data_url(PHOTO), "task": "extend", **size}
    return _as_json("huge canvas", json.dumps(body).encode())
