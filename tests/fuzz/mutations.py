"""Ways to damage a file: bytes of any, values of a JSON document."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

# What readers forget: empty, negative, huge, not a number, of another type, paths out of the folder, terminal codes,
# text that no encoding takes.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 255, 2**31 - 1, 2**31, 2**32, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e-300, 1e308),
    *(float("nan"), float("inf"), -float("inf")),
    *("", " ", "0", "-1", "a", "nan", "../x", "/etc/passwd", "a/../../x", "\ud800", "\x1b]0;x\x07", "\x00", "é" * 300),
    *([], {}, [[]], [None], [1, 2], {"a": 1}, [-1, 5], ["a"], [[1, 2, 3]], {"size": [2, 2], "counts": "04"}),
)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)
DEEP = 50_000
HEAD = 2048  # bytes at the beginning and the end of a file, where formats describe themselves


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """One to three damages of the bytes, half of them near the beginning or the end."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_DAMAGES)(changed, _place(changed, rng), rng)
    return bytes(changed)


def mutate_json(data: bytes, rng: Random) -> bytes:
    """One to three values of a JSON document replaced, removed, doubled or exchanged; or its bytes are damaged."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        document = _mutate_value(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.01:
        text = text.replace("{}", "[" * DEEP, 1) if "{}" in text else "[" * DEEP + text
    return text.encode("utf-8", "surrogatepass")


def _place(data: bytearray, rng: Random) -> int:
    size = len(data)
    near = min(HEAD, size)
    return rng.choice((rng.randrange(size + 1), rng.randrange(near + 1), size - rng.randrange(near + 1)))


def _flip(data: bytearray, place: int, rng: Random) -> None:
    if place < len(data):
        data[place] ^= 1 << rng.randrange(8)


def _set(data: bytearray, place: int, rng: Random) -> None:
    if place < len(data):
        data[place] = rng.choice((0, 0xFF, 0x7F, 0x80, 0x20, 0x30, 0x39, 0x22, 0x2D, rng.randrange(256)))


def _number(data: bytearray, place: int, rng: Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(NUMBERS) % 256**width
    data[place : place + width] = number.to_bytes(width, rng.choice(("little", "big")))


def _digits(data: bytearray, place: int, rng: Random) -> None:
    data[place : place + rng.randrange(4)] = str(rng.choice(NUMBERS)).encode()


def _cut(data: bytearray, place: int, rng: Random) -> None:
    del data[place : place + rng.choice((1, 2, 8, 100, len(data)))]


def _insert(data: bytearray, place: int, rng: Random) -> None:
    data[place:place] = rng.choice((b"\0", b"\xff", b"\n", b'"', b"," * 9, rng.randbytes(rng.randrange(1, 40))))


def _double(data: bytearray, place: int, rng: Random) -> None:
    size = rng.choice((1, 8, 64, 1000))
    data[place:place] = data[place : place + size]


def _blank(data: bytearray, place: int, rng: Random) -> None:
    size = min(rng.choice((4, 16, 256)), len(data) - place)
    data[place : place + size] = bytes(size)


_DAMAGES: tuple[Callable[[bytearray, int, Random], None], ...] = (
    *(_flip, _flip, _set, _set, _number, _number, _digits, _cut, _insert, _double, _blank),
)


def _mutate_value(document: Any, rng: Random) -> Any:
    """Change one value somewhere; deep ones are as likely as shallow ones."""
    holders = [document] if isinstance(document, dict | list) else []
    for holder in holders:  # grows while it is read
        values = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in values if isinstance(value, dict | list)]
    holders = [holder for holder in holders if holder]
    if not holders:
        return rng.choice(VALUES)
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    action = rng.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif action == 2 and isinstance(holder, dict):
        holder[rng.choice(("id", "name", "x", "..", "\x1b[2J"))] = holder.pop(key)
    elif action == 3 and isinstance(holder[key], str) and holder[key]:
        holder[key] = mutate_bytes(holder[key].encode("utf-8", "surrogatepass"), rng).decode("latin-1")
    elif action == 4 and type(holder[key]) in (int, float):
        holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 2**20, str(holder[key])))
    else:
        holder[key] = json.loads(json.dumps(rng.choice(VALUES)))
    return document
