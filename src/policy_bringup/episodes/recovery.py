"""Rebuilds a bag that was not closed: a crash, a power cut, a full disk.

Whatever is whole in the old file goes into a new one beside it, which takes its place once it is durable. metadata.yaml
is removed before that and written last: a folder without it is unclean, so recovery itself may be cut short anywhere.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mcap.exceptions import UnsupportedCompressionError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, DataEnd, Header, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import breakup_chunk

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.bag_file import BagFile
from policy_bringup.episodes.bag_records import DAMAGE, KINDS, has_index, parse, records
from policy_bringup.episodes.bag_writer import ROSBAG2_RECORD, rosbag2_record
from policy_bringup.episodes.journal import (
    JOURNAL_FILE,
    RECORD_NAME,
    Journal,
    TopicCount,
    from_record,
    load_journal,
    save_journal,
    to_record,
)
from policy_bringup.episodes.layout import PARTIAL, bag_path, graph_name, lock, naming, sync_folder
from policy_bringup.episodes.metadata import METADATA_FILE, BagSummary, write_metadata

DAMAGED = ".damaged"
"""Ends the name of the old file, which is kept where more than a cut tail could not be read."""

_FILLING = (Opcode.CHUNK, Opcode.MESSAGE)


def is_clean(folder: Path) -> bool:
    """Whether an episode was closed as it should be: a stopped journal, metadata.yaml, and a bag with its index."""
    try:
        stopped = load_journal(folder).stopped_ns is not None
        return stopped and (folder / METADATA_FILE).stat().st_size > 0 and has_index(bag_path(folder))
    except (EpisodeError, OSError):
        return False


def recover(folder: Path) -> Journal:
    """Makes an episode whole again and says what is known about it; one that is clean is left as it is.

    The label is that of journal.yaml; where that is unreadable, of the last record in the bag. Raises EpisodeError,
    and changes nothing, for a bag that is not ours, one that is being written, and one whose label is lost.
    """
    descriptor = lock(folder)
    try:
        return load_journal(folder) if is_clean(folder) else _recover(folder)
    finally:
        os.close(descriptor)


def _recover(folder: Path) -> Journal:
    bag = bag_path(folder)
    journal = replace(_journal(folder, _newest_record(bag)), recovered=True)
    partial = bag.with_name(bag.name + PARTIAL)
    with naming(partial):
        partial.unlink(missing_ok=True)  # of a recovery that was cut short
    try:
        journal, summary = _rebuild(bag, partial, journal)
        with naming(folder):
            (folder / METADATA_FILE).unlink(missing_ok=True)
            sync_folder(folder)
            partial.replace(bag)
            sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    save_journal(folder, journal)
    write_metadata(folder, summary)
    return journal


def _journal(folder: Path, record: Journal | None) -> Journal:
    try:
        journal = load_journal(folder)
    except EpisodeError as error:
        if record is None:
            raise EpisodeError(f"{error}; the bag holds no record of it either: its label is lost") from error
        return _noted(record, f"{JOURNAL_FILE} was unreadable, the label is the bag's")
    if journal.stopped_ns is None and record is not None and record.stopped_ns is not None:
        # The bag was closed, the journal was not: all but the label is newer in the bag.
        return replace(record, outcome=journal.outcome, note=journal.note or record.note)
    return journal


def _newest_record(bag: Path) -> Journal | None:
    """The newest record of ours that can be read. Raises EpisodeError for a bag that is not ours."""
    newest, ours, filled = None, False, False
    for opcode, payload in records(bag, (Opcode.METADATA, *_FILLING), unread=_FILLING):
        filled = filled or opcode in _FILLING
        record = parse(opcode, payload) if opcode == Opcode.METADATA else None
        if isinstance(record, Metadata) and record.name == RECORD_NAME:
            ours = True
            with suppress(EpisodeError):
                newest = from_record(record.metadata)
    if filled and not ours:  # ours has its record in front of the first chunk
        raise EpisodeError(f"{bag}: is a bag of another program (it has no record '{RECORD_NAME}') and is left alone")
    return newest


def _rebuild(bag: Path, partial: Path, journal: Journal) -> tuple[Journal, BagSummary]:
    """Writes everything that is whole in `bag` to `partial`, complete and durable -> what is in it."""
    out = BagFile(partial)
    try:
        out.add_metadata(RECORD_NAME, to_record(journal))
        copy = _Copy(bag, out)
        for opcode, payload in records(bag, KINDS):
            copy.take(parse(opcode, payload))
        if copy.damaged or (not copy.ended and bag.exists() and has_index(bag)):
            journal = _noted(journal, f"damaged records were left out, the old file is kept as {_keep(bag)}")
        summary = out.summary({})
        journal = _completed(journal, summary)
        summary = replace(summary, custom=to_record(journal))
        out.add_metadata(RECORD_NAME, summary.custom)
        out.add_metadata(ROSBAG2_RECORD, rosbag2_record(bag.parent, summary))
        out.finish()
        return journal, summary
    finally:
        out.abandon()


class _Copy:
    """Hands the records of an old file on to a new one.

    damaged: something had to be left out; ended: the old file was read to the end of its data.
    """

    def __init__(self, bag: Path, out: BagFile) -> None:
        self.damaged = False
        self.ended = False
        self._bag = bag
        self._out = out
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, int] = {}

    def take(self, record: McapRecord | None) -> None:
        """One record; None is one that could not be parsed."""
        if isinstance(record, Chunk):
            for inner in self._unpacked(record):
                self.take(inner)
        elif isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel) and record.schema_id in self._schemas:
            self._channel(record, self._schemas[record.schema_id])
        elif isinstance(record, Message) and record.channel_id in self._channels:
            channel = self._channels[record.channel_id]
            self._out.add_message(channel, record.data, record.log_time, record.publish_time, record.sequence)
        elif isinstance(record, Metadata):
            if record.name not in (RECORD_NAME, ROSBAG2_RECORD):  # those are written anew
                self._out.add_metadata(record.name, record.metadata)
        elif isinstance(record, Attachment):
            self._out.add_attachment(record)
        elif isinstance(record, DataEnd):
            self.ended = True
        elif not isinstance(record, Header):
            self.damaged = True

    def _channel(self, channel: Channel, schema: Schema) -> None:
        if channel.id not in self._channels:
            number = self._out.add_schema(schema.name, schema.encoding, schema.data)
            self._channels[channel.id] = self._out.add_channel(
                channel.topic, schema.name, number, channel.message_encoding, channel.metadata
            )

    def _unpacked(self, chunk: Chunk) -> list[McapRecord]:
        try:
            return breakup_chunk(chunk, validate_crc=True)
        except UnsupportedCompressionError as error:
            raise EpisodeError(f"{self._bag}: is compressed in a way that cannot be read here ({error})") from error
        except DAMAGE:
            self.damaged = True
            return []


def _keep(bag: Path) -> str:
    spare = bag.with_name(bag.name + DAMAGED)
    if not spare.exists():  # else it is of an earlier recovery, and has more in it
        with naming(spare):
            try:
                spare.hardlink_to(bag)
            except OSError:  # a file system without links
                shutil.copyfile(bag, spare)
    return spare.name


def _completed(journal: Journal, summary: BagSummary) -> Journal:
    """The journal with the counts of what is in the rebuilt bag."""
    held = {graph_name(entry.name): entry.messages for entry in summary.topics}
    counts = {}
    for topic in {**held, **journal.counts}:
        old = journal.counts.get(topic, TopicCount(0, 0, 0, 0))
        written = held.get(topic, 0)
        # What a failing disk took with its last chunk was received, and is dropped.
        received = max(old.received, written + old.dropped)
        counts[topic] = TopicCount(received, written, received - written, old.lost)
    # A verdict on messages that are gone is none.
    quality = journal.quality if counts == dict(journal.counts) else None
    stopped_ns = journal.stopped_ns
    if stopped_ns is None:
        stopped_ns = journal.started_ns if summary.last_ns is None else summary.last_ns
    return replace(journal, counts=counts, quality=quality, stopped_ns=stopped_ns)


def _noted(journal: Journal, remark: str) -> Journal:
    return journal if remark in journal.note else replace(journal, note="; ".join(filter(None, (journal.note, remark))))
