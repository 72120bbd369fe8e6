"""The records of an MCAP file one by one, as far as they are whole: the index is not needed, damage is survived."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, DataEnd, Header, McapRecord, Message, Metadata, Schema
from mcap.writer import MCAP0_MAGIC

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.bag_file import PROFILE
from policy_bringup.episodes.layout import naming

DAMAGE = (McapError, ValueError, struct.error, OverflowError, MemoryError)
"""What the library raises while it parses damaged bytes."""

_FRAME = struct.Struct("<BQ")  # opcode and length before every record
_FOOTER = struct.Struct("<BQQQI8s")  # the last bytes of a file: frame, summary start, its offsets, CRC, magic
_STORAGE = (".mcap", ".db3", ".zstd", ".bag")
_READERS: dict[int, Any] = {
    Opcode.HEADER: Header,
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.CHUNK: Chunk,
    Opcode.METADATA: Metadata,
    Opcode.ATTACHMENT: Attachment,
    Opcode.DATA_END: DataEnd,
}
KINDS = (*_READERS, Opcode.MESSAGE)
"""Opcodes of all records that hold data, and of the end of the data."""


def records(bag: Path, kinds: tuple[int, ...], unread: tuple[int, ...] = ()) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of the whole records of some kinds, up to the first cut one; `unread` ones come as b"".

    Raises EpisodeError for a file that is no bag of ROS 2. A bag that is not there at all has no records.
    """
    if not bag.exists():
        _refuse_strangers(bag)
        return
    with naming(bag, "read"), bag.open("rb") as stream:
        if not MCAP0_MAGIC.startswith(stream.read(len(MCAP0_MAGIC))):
            raise EpisodeError(f"{bag}: is not an MCAP file")
        for index, (opcode, length) in enumerate(_frames(stream)):
            if index == 0:
                _refuse_other_profile(bag, parse(opcode, stream.read(length)))
            elif opcode in kinds:
                yield opcode, b"" if opcode in unread else stream.read(length)


def _frames(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Opcode and payload length of every whole record, the stream at its payload, until the data end."""
    end = os.fstat(stream.fileno()).st_size
    position = len(MCAP0_MAGIC)
    while True:
        stream.seek(position)
        head = stream.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        opcode, length = _FRAME.unpack(head)
        position += _FRAME.size + length
        # 0: a tail that the file system filled with zeros.
        if opcode == 0 or position > end:
            return
        yield opcode, length
        if opcode == Opcode.DATA_END:
            return


def parse(opcode: int, payload: bytes) -> McapRecord | None:
    """One record of the kinds that hold data; None if it is damaged."""
    stream = ReadDataStream(BytesIO(payload))
    try:
        record: McapRecord
        if opcode == Opcode.MESSAGE:
            record = Message.read(stream, len(payload))
        else:
            record = _READERS[opcode].read(stream)
        return record
    except (KeyError, *DAMAGE):
        return None


def _refuse_other_profile(bag: Path, header: McapRecord | None) -> None:
    if not isinstance(header, Header) or header.profile != PROFILE:
        raise EpisodeError(f"{bag}: is not a bag of ROS 2 (its profile must be '{PROFILE}')")


def _refuse_strangers(bag: Path) -> None:
    with naming(bag.parent, "read"):
        others = sorted(entry.name for entry in bag.parent.iterdir() if entry.suffix in _STORAGE)
    if others:
        raise EpisodeError(f"{bag}: is missing, but the folder holds {', '.join(others)}, which is left alone")


def has_index(bag: Path) -> bool:
    """Whether a file ends in a footer with an undamaged summary. Raises OSError."""
    with bag.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < _FOOTER.size:
            return False
        stream.seek(size - _FOOTER.size)
        opcode, _, summary, _, crc, magic = _FOOTER.unpack(stream.read())
        if opcode != Opcode.FOOTER or magic != MCAP0_MAGIC or not 0 < summary <= size - _FOOTER.size:
            return False
        stream.seek(summary)
        # The CRC covers the summary and the footer up to the CRC itself.
        return bool(zlib.crc32(stream.read(size - summary - 12)) == crc)
