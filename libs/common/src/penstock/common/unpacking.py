"""Compressed batches of records, unpacked within a bound.

A broker bounds a batch as it is sent (`message.max.bytes`, 1 MiB), and nothing bounds what it
unpacks to: 64 KiB of zstd may be 2 GiB, which would end a consumer, and again whoever takes over.
"""

import zlib

import cramjam

MOST_UNPACKED = 32 * 1024 * 1024
"""Bytes: thirty times the largest batch that is not compressed. Texts shrink by ten at most."""

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
"""As the attributes of a batch name them."""

_FIRST = 256 * 1024
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER = 16


class UnpackError(Exception):
    """It is damaged, of an unknown kind, or more than `MOST_UNPACKED`."""


def unpack(data: memoryview, codec: int) -> bytes:
    """
    Raises:
        UnpackError: see there.
    """
    try:
        if codec == GZIP:
            return _gzip(data)
        if codec == SNAPPY:
            return _snappy(data)
        if codec in (LZ4, ZSTD):
            return _within(cramjam.lz4 if codec == LZ4 else cramjam.zstd, data)
        raise UnpackError(f"compression {codec} is not known")
    except (cramjam.DecompressionError, zlib.error) as error:
        raise UnpackError(f"it cannot be unpacked: {error}") from error


def _gzip(data: memoryview) -> bytes:
    unpacked = b""
    left = bytes(data)
    while left:  # members one after the other, as gzip may have
        member = zlib.decompressobj(wbits=31)
        unpacked += member.decompress(left, MOST_UNPACKED + 1 - len(unpacked))
        _bound(len(unpacked))
        if not member.eof:
            raise UnpackError("it cannot be unpacked: it ends too early")
        left = member.unused_data
    return unpacked


def _within(codec: object, data: memoryview) -> bytes:
    """Into buffers of growing size: a large one is slow to make, and a small one is nearly always enough."""
    size = _FIRST
    while True:
        buffer = bytearray(size)
        try:
            used = codec.decompress_into(data, buffer)  # type: ignore[attr-defined]
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
            if size == MOST_UNPACKED:
                _bound(size + 1)
            size = min(size * 4, MOST_UNPACKED)
        else:
            return bytes(memoryview(buffer)[:used])


def _snappy(data: memoryview) -> bytes:
    """Bare, or in blocks behind the header of Java's library, each with its length."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(data, 0)
    unpacked = bytearray()
    at = _XERIAL_HEADER
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4])
        unpacked += _snappy_block(data[at + 4 : end], len(unpacked))
        at = end
    return bytes(unpacked)


def _snappy_block(block: memoryview, before: int) -> bytes:
    """It begins with the length that it unpacks to."""
    _bound(before + cramjam.snappy.decompress_raw_len(block))
    return bytes(cramjam.snappy.decompress_raw(block))


def _bound(size: int) -> None:
    if size > MOST_UNPACKED:
        raise UnpackError(f"it unpacks to more than {MOST_UNPACKED // 2**20} MiB, the limit")
