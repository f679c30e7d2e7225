#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Verifies a recorded migration against docs/wire.md. Written from that page alone: it shares no code with Tern, so that a
mistake in Tern's own reader and writer is not made here again.

A recording is a directory, made by tests/live/recorder.py, with one file for each connection and direction:
    control.s2t, control.t2s     the control connection: what the source sent, what the target sent
    data0.s2t, data1.s2t, ...    the data connections, by channel; dataN.t2s, if there, must be empty
    ask0.s2t, ask0.t2s, ...      control connections made later to ask for the outcome (ASK)
    order                        lines `nanoseconds file offset bytes`: pieces of the files in the order in which they
                                 passed. Without it nothing is said about order between connections.

usage: wirecheck.py [--dump] [--cut] DIRECTORY
    --dump  prints every record, field by field
    --cut   the recording is of a migration that was cut off: what is missing at the end is no mistake (nor is it after
            CANCEL or REFUSE)
Exit status: 0 when every rule holds, 1 when one does not (a line for each), 2 when there is nothing to read.
"""

import argparse
import bisect
import collections
import json
import mmap
import os
import struct
import sys

import xxhash

PAGE = 4096
CHUNK = 512
OPTIONAL = 1 << 31
HEADER = struct.Struct("<IIQQQ")
RUN = struct.Struct("<QII")
DATA, ZERO, DISCARDED = 0, 1, 2
KINDS = {DATA: "data", ZERO: "zero", DISCARDED: "discarded"}

# Every rule that can be broken; the tests see each of them fail.
RULES = {
    "files": "the connections of one migration are there",
    "cut": "no connection ends within a record",
    "sequence": "records are numbered from 0",
    "checksum": "header and head have the checksum that the header says",
    "size": "heads and bodies are within their limits",
    "type": "mandatory records are known",
    "direction": "a record stands on its kind of connection, in its direction",
    "field": "a head has its type's fields, no more, with values that are allowed",
    "config": "regions are sorted, apart and whole pages; the configuration is JSON",
    "sections": "sections and their fields are whole, and named once",
    "order": "records of one connection and direction come in their order",
    "session": "all say the session of HELLO",
    "channel": "a data connection begins with DATA_HELLO, each channel is there once",
    "run": "runs name pages of the VM, and do not cross a chunk",
    "chunk-channel": "a chunk's pages travel on channel chunk mod N",
    "body": "a body holds the data pages that the head names, at most 512",
    "round": "rounds count up from 0 and each is ended",
    "round-end": "ROUND_END counts the pages of the round",
    "round-0": "round 0 names every page exactly once",
    "round-done": "the target acknowledges each round, and counts the damaged pages right",
    "final": "STATE names the last round",
    "state": "STATE's body has its checksum",
    "damaged": "no page is damaged when the target is ready",
    "ram-hash": "memory after a round is what RAM_HASH says",
    "between": "what depends on another connection comes after it",
    "handover": "OWN after READY; one answer, always the same; DONE after it",
}


class Broken(Exception):
    """One rule broken, in a place that the catcher knows."""

    def __init__(self, rule, text):
        super().__init__(text)
        self.rule = rule


class Fields:
    """The fields of a head, one after the other."""

    def __init__(self, data):
        self.data = bytes(data)
        self.at = 0

    def raw(self, count):
        if self.at + count > len(self.data):
            raise Broken("field", f"head of {len(self.data)} bytes is too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.raw(struct.calcsize("<" + code)))[0]

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def text(self):
        length = self.u16()
        if length > 1024:
            raise Broken("field", f"text of {length} bytes")
        try:
            return self.raw(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken("field", f"text is not UTF-8: {error}") from None

    def magic(self, expected):
        found = self.raw(8)
        if found != expected:
            raise Broken("field", f"magic {found!r}")
        return found.decode()

    def session(self):
        return self.raw(16).hex()

    def end(self):
        if self.at != len(self.data):
            raise Broken("field", f"{len(self.data) - self.at} bytes after the last field")


def parse_sections(data, what):
    """[(name, instance, version, [(number, element bytes, [values])])]"""
    sections, seen, at = [], set(), 0
    data = bytes(data)

    def take(count, end):
        nonlocal at
        if at + count > end:
            raise Broken("sections", f"{what}: cut off at byte {at}")
        at += count
        return data[at - count : at]

    while at < len(data):
        (length,) = struct.unpack("<H", take(2, len(data)))
        if not 1 <= length <= 63:
            raise Broken("sections", f"{what}: name of {length} bytes at byte {at}")
        name = take(length, len(data)).decode("ascii", "replace")
        instance, version, payload = struct.unpack("<IHI", take(10, len(data)))
        where = f"{what}: {name}.{instance}"
        if (name, instance) in seen:
            raise Broken("sections", f"{where}: twice")
        seen.add((name, instance))
        end = at + payload
        if end > len(data):
            raise Broken("sections", f"{where}: payload of {payload} bytes is cut off")
        fields, numbers = [], set()
        while at < end:
            number, element, zero, count = struct.unpack("<HBBI", take(8, end))
            if element not in (1, 2, 4, 8) or zero:
                raise Broken("sections", f"{where}: field {number & 0x7FFF}: element size {element}, {zero}")
            if number & 0x7FFF in numbers:
                raise Broken("sections", f"{where}: field {number & 0x7FFF}: twice")
            numbers.add(number & 0x7FFF)
            values = take(element * count, end)
            fields.append((number, element, struct.unpack(f"<{count}{'_BH_I___Q'[element]}", values)))
        sections.append((name, instance, version, fields))
    return sections


def parse_hello(head):
    fields = {
        "magic": head.magic(b"TERNMIGR"),
        "version": head.u16(),
        "oldest": head.u16(),
        "page_bytes": head.u32(),
        "architecture": head.u32(),
        "channels": head.u32(),
        "flags": head.u32(),
        "session": head.session(),
        "source": head.text(),
    }
    if fields["version"] < 1 or not 1 <= fields["oldest"] <= fields["version"]:
        raise Broken("field", f"versions {fields['oldest']} to {fields['version']}")
    if fields["page_bytes"] != PAGE:
        raise Broken("field", f"page size {fields['page_bytes']}")
    if fields["architecture"] not in (1, 2):
        raise Broken("field", f"architecture {fields['architecture']}")
    if not 1 <= fields["channels"] <= 16:
        raise Broken("field", f"{fields['channels']} channels")
    if fields["flags"] & ~1:
        raise Broken("field", f"flags {fields['flags']:#x}")
    return fields


def parse_config(head):
    count = head.u32()
    if not 1 <= count <= 8:
        raise Broken("config", f"{count} regions")
    regions = [(head.u64(), head.u64()) for _ in range(count)]
    end = 0
    for gpa, size in regions:
        if gpa % PAGE or size % PAGE or not size or gpa < end or gpa + size > 1 << 64:
            raise Broken("config", f"region {gpa:#x} + {size:#x} after {end:#x}")
        end = gpa + size
    length = head.u32()
    if length > 256 << 10:
        raise Broken("size", f"configuration of {length} bytes")
    try:
        configuration = json.loads(head.raw(length).decode("utf-8"))
    except ValueError as error:
        raise Broken("config", f"configuration is not JSON: {error}") from None
    length = head.u32()
    if length > 512 << 10:
        raise Broken("size", f"told sections of {length} bytes")
    return {
        "regions": regions,
        "configuration": configuration,
        "told": parse_sections(head.raw(length), "told"),
    }


def parse_state(head):
    fields = {"final_round": head.u32(), "flags": head.u32(), "xxh3": head.u64()}
    if fields["flags"] & ~1:
        raise Broken("field", f"flags {fields['flags']:#x}")
    return fields


def parse_session(head):
    return {"session": head.session()}


def parse_text(name):
    return lambda head: {name: head.text()}


def parse_hello_ok(head):
    fields = {"version": head.u16(), "most_channels": head.u32(), "target": head.text()}
    if not fields["most_channels"]:
        raise Broken("field", "a target that takes no channel")
    return fields


def parse_round_done(head):
    return {"round": head.u32(), "damaged": head.u64()}


def parse_ram_hash(head):
    return {"round": head.u32(), "xxh3": head.u64()}


def parse_session_us(head):
    return {"session": head.session(), "microseconds": head.u64()}


def parse_session_text(head):
    return {"session": head.session(), "why": head.text()}


def parse_data_hello(head):
    return {"magic": head.magic(b"TERNDATA"), "session": head.session(), "channel": head.u32()}


def parse_pages(head):
    number, count = head.u32(), head.u32()
    if not 1 <= count <= 512:
        raise Broken("size", f"{count} runs")
    runs = [RUN.unpack(head.raw(RUN.size)) for _ in range(count)]
    for _, pages, kind in runs:
        if not 1 <= pages <= CHUNK:
            raise Broken("run", f"run of {pages} pages")
        if kind not in KINDS:
            raise Broken("run", f"run of kind {kind}")
    data = sum(pages for _, pages, kind in runs if kind == DATA)
    if data > 512:
        raise Broken("body", f"{data} data pages in one record")
    return {"round": number, "runs": runs, "hashes": struct.unpack(f"<{data}Q", head.raw(8 * data))}


def parse_round_end(head):
    return {"round": head.u32(), "pages": head.u64()}


Type = collections.namedtuple("Type", "name ways parse body_max")
CONTROL_S, CONTROL_T, DATA_S, ASK_S, ASK_T = "control.s2t", "control.t2s", "data.s2t", "ask.s2t", "ask.t2s"
TYPES = {
    1: Type("HELLO", {CONTROL_S}, parse_hello, 0),
    2: Type("CONFIG", {CONTROL_S}, parse_config, 0),
    3: Type("STATE", {CONTROL_S}, parse_state, 64 << 20),
    4: Type("OWN", {CONTROL_S}, parse_session, 0),
    5: Type("DONE", {CONTROL_S, ASK_S}, parse_session, 0),
    6: Type("CANCEL", {CONTROL_S}, parse_text("why"), 0),
    8: Type("RAM_HASH", {CONTROL_S}, parse_ram_hash, 0),
    7: Type("ASK", {ASK_S}, parse_session, 0),
    32: Type("HELLO_OK", {CONTROL_T}, parse_hello_ok, 0),
    33: Type("CONFIG_OK", {CONTROL_T}, parse_text("warnings"), 0),
    34: Type("REFUSE", {CONTROL_T}, parse_text("why"), 0),
    35: Type("ROUND_DONE", {CONTROL_T}, parse_round_done, 0),
    36: Type("READY", {CONTROL_T}, parse_session_us, 0),
    37: Type("TAKEN", {CONTROL_T, ASK_T}, parse_session_us, 0),
    38: Type("REFUSED_OWN", {CONTROL_T, ASK_T}, parse_session_text, 0),
    39: Type("UNKNOWN", {ASK_T}, parse_session, 0),
    64: Type("HEARTBEAT", {CONTROL_S, CONTROL_T, ASK_S, ASK_T}, lambda head: {}, 0),
    65: Type("DATA_HELLO", {DATA_S}, parse_data_hello, 0),
    66: Type("PAGES", {DATA_S}, parse_pages, 512 * PAGE),
    67: Type("ROUND_END", {DATA_S}, parse_round_end, 0),
}

# What may follow what, heartbeats and optional records left out. "" is the start; "end" the end of a whole recording.
ORDER = {
    CONTROL_S: {
        "": {"HELLO"},
        "HELLO": {"CONFIG", "CANCEL", "end"},
        "CONFIG": {"RAM_HASH", "STATE", "CANCEL", "end"},
        "RAM_HASH": {"RAM_HASH", "STATE", "CANCEL", "end"},
        "STATE": {"OWN", "CANCEL", "end"},
        "OWN": {"DONE", "end"},
        "DONE": {"end"},
        "CANCEL": {"end"},
    },
    CONTROL_T: {
        "": {"HELLO_OK", "REFUSE", "end"},
        "HELLO_OK": {"CONFIG_OK", "REFUSE", "end"},
        "CONFIG_OK": {"ROUND_DONE", "REFUSE", "end"},
        "ROUND_DONE": {"ROUND_DONE", "READY", "REFUSE", "end"},
        "READY": {"TAKEN", "REFUSED_OWN", "end"},
        "TAKEN": {"end"},
        "REFUSED_OWN": {"end"},
        "REFUSE": {"end"},
    },
    DATA_S: {
        "": {"DATA_HELLO"},
        "DATA_HELLO": {"PAGES", "ROUND_END", "end"},
        "PAGES": {"PAGES", "ROUND_END", "end"},
        "ROUND_END": {"PAGES", "ROUND_END", "end"},
    },
    ASK_S: {"": {"ASK"}, "ASK": {"DONE", "end"}, "DONE": {"end"}},
    ASK_T: {
        "": {"TAKEN", "REFUSED_OWN", "UNKNOWN", "end"},
        "TAKEN": {"end"},
        "REFUSED_OWN": {"end"},
        "UNKNOWN": {"end"},
    },
}

Record = collections.namedtuple("Record", "file number start end type name fields body")


class Passed:
    """When which byte of which file passed the recorder."""

    def __init__(self, path):
        self.ends = collections.defaultdict(list)
        self.places = collections.defaultdict(list)
        with open(path, encoding="ascii") as lines:
            for place, line in enumerate(lines):
                _, name, offset, count = line.split()
                self.ends[name].append(int(offset) + int(count))
                self.places[name].append(place)

    def byte(self, name, offset):
        index = bisect.bisect_right(self.ends[name], offset)
        return self.places[name][index] if index < len(self.places[name]) else None

    def before(self, first, second):
        """Whether all of the first record passed before any of the second; None: not known."""
        a, b = self.byte(first.file, first.end - 1), self.byte(second.file, second.start)
        return None if a is None or b is None else a < b


class Checker:
    def __init__(self, directory, dump=None, cut=False):
        self.directory = directory
        self.dump = dump
        self.cut = cut
        self.problems = []  # (rule, text)
        self.streams = {}  # file -> records
        self.maps = []
        self.cut_off = []  # (where, text) of connections that end within a record

    def broken(self, rule, where, text):
        assert rule in RULES
        self.problems.append((rule, f"{where}: {text}"))

    # Framing

    def bytes_of(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.maps.append(mapped)
        return memoryview(mapped)

    def read_stream(self, name, way):
        """All records of one file; what is wrong with one ends the file, for nothing after it can be trusted."""
        data = self.bytes_of(name)
        records = []
        at = 0
        while at < len(data):
            where = f"{name}: record {len(records)} at byte {at}"
            try:
                record = self.read_record(name, way, data, at, len(records))
            except Broken as error:
                if error.rule == "cut":
                    self.cut_off.append((where, str(error)))
                else:
                    self.broken(error.rule, where, str(error))
                break
            records.append(record)
            if self.dump:
                self.print_record(record)
            at = record.end
        self.streams[name] = records

    def read_record(self, name, way, data, at, number):
        if len(data) - at < HEADER.size:
            raise Broken("cut", f"{len(data) - at} bytes where a header should be")
        kind, head_bytes, body_bytes, sequence, checksum = HEADER.unpack_from(data, at)
        if head_bytes > 1 << 20:
            raise Broken("size", f"head of {head_bytes} bytes")
        head_at = at + HEADER.size
        if len(data) - head_at < head_bytes + body_bytes:
            raise Broken("cut", f"{len(data) - head_at} bytes where {head_bytes} + {body_bytes} should be")
        head = data[head_at : head_at + head_bytes]
        header = HEADER.pack(kind, head_bytes, body_bytes, sequence, 0)
        if xxhash.xxh3_64_intdigest(header + bytes(head)) != checksum:
            raise Broken("checksum", f"header says {checksum:#018x}")
        if sequence != number:
            raise Broken("sequence", f"numbered {sequence}")
        body_at = head_at + head_bytes
        body = data[body_at : body_at + body_bytes]
        end = body_at + body_bytes
        if kind not in TYPES:
            if not kind & OPTIONAL:
                raise Broken("type", f"type {kind}")
            return Record(name, number, at, end, kind, "optional", {}, body)
        entry = TYPES[kind]
        if way not in entry.ways:
            raise Broken("direction", f"{entry.name} here")
        if body_bytes > entry.body_max:
            raise Broken("size", f"{entry.name}: body of {body_bytes} bytes")
        fields = Fields(head)
        parsed = entry.parse(fields)
        fields.end()
        return Record(name, number, at, end, kind, entry.name, parsed, body)

    def print_record(self, record):
        print(f"{record.file} #{record.number} at {record.start}: {record.name}", file=self.dump)
        for key, value in record.fields.items():
            if key == "runs":
                for first, pages, kind in value:
                    print(f"    run {first} + {pages} {KINDS[kind]}", file=self.dump)
            elif key == "hashes":
                print(f"    {len(value)} hashes", file=self.dump)
            elif key == "regions":
                for gpa, size in value:
                    print(f"    region {gpa:#x} + {size:#x}", file=self.dump)
            elif key == "told":
                self.print_sections(value)
            else:
                print(f"    {key} {value}", file=self.dump)
        if record.name == "STATE":
            try:
                self.print_sections(parse_sections(record.body, "state"))
            except Broken as error:
                print(f"    state: {error}", file=self.dump)
        if len(record.body):
            print(f"    body of {len(record.body)} bytes", file=self.dump)

    def print_sections(self, sections):
        for name, instance, version, fields in sections:
            print(f"    section {name}.{instance} version {version}", file=self.dump)
            for number, element, values in fields:
                shown = " ".join(f"{value:#x}" for value in values[:8])
                more = f" ... {len(values)} in all" if len(values) > 8 else ""
                optional = " optional" if number & 0x8000 else ""
                print(f"        {number & 0x7FFF}{optional} u{element * 8} {shown}{more}", file=self.dump)

    # Rules of one stream

    def check_order(self, name, way):
        last, hello_seen = "", False
        for record in self.streams[name]:
            if record.name in ("HEARTBEAT", "optional"):
                # ASK is a connection's first record as HELLO is; nothing need be said before a heartbeat to it.
                if not hello_seen and way != ASK_T:
                    self.broken("order", f"{name}: record {record.number}", f"{record.name} before anything else")
                continue
            if record.name not in ORDER[way].get(last, ()):
                self.broken("order", f"{name}: record {record.number}", f"{record.name} after {last or 'nothing'}")
            hello_seen = True
            last = record.name
        if not self.cut and "end" not in ORDER[way].get(last, ()):
            self.broken("order", name, f"ends after {last or 'nothing'}")

    def find(self, name, kind):
        return next((record for record in self.streams.get(name, ()) if record.name == kind), None)

    def check_sessions(self, session):
        for name, records in self.streams.items():
            for record in records:
                said = record.fields.get("session")
                if said is not None and said != session:
                    self.broken("session", f"{name}: {record.name}", f"session {said}, not {session}")

    def check_state(self, state):
        if xxhash.xxh3_64_intdigest(state.body) != state.fields["xxh3"]:
            self.broken("state", state.file, "the state has another checksum than STATE says")
            return
        try:
            parse_sections(state.body, "state")
        except Broken as error:
            self.broken(error.rule, state.file, str(error))

    # Data

    def check_pages_record(self, record, channel, round_number):
        """(pages named, [(first, pages, kind)]); keeps the set of damaged pages."""
        where = f"{record.file}: record {record.number}"
        fields = record.fields
        if fields["round"] != round_number:
            self.broken("round", where, f"PAGES of round {fields['round']} in round {round_number}")
        named, at = 0, 0
        if len(record.body) != len(fields["hashes"]) * PAGE:
            self.broken("body", where, f"{len(record.body)} bytes for {len(fields['hashes'])} data pages")
            return 0
        for first, pages, kind in fields["runs"]:
            named += pages
            if first + pages > self.npages:
                self.broken("run", where, f"pages {first} + {pages} of {self.npages}")
                return named
            if first // CHUNK != (first + pages - 1) // CHUNK:
                self.broken("run", where, f"run {first} + {pages} crosses a chunk")
            if (first // CHUNK) % self.nchannels != channel:
                self.broken("chunk-channel", where, f"page {first} on channel {channel} of {self.nchannels}")
            for page in range(first, first + pages):
                self.named[page] = min(self.named[page] + 1, 2) if round_number == 0 else self.named[page]
                fits = True
                if kind == DATA:
                    fits = xxhash.xxh3_64_intdigest(record.body[at : at + PAGE]) == self.hash_at(fields, at)
                    at += PAGE
                if self.keep:
                    self.memory[round_number].append((page, record.body[at - PAGE : at] if kind == DATA else None))
                if fits:
                    self.damaged[round_number].discard(page)
                    self.mended[round_number].add(page)
                else:
                    self.damaged[round_number].add(page)
                    self.mended[round_number].discard(page)
            self.kinds[kind] += pages
        return named

    @staticmethod
    def hash_at(fields, at):
        return fields["hashes"][at // PAGE]

    def check_channel(self, name, channel):
        round_number, named = 0, 0
        for record in self.streams[name]:
            where = f"{name}: record {record.number}"
            if record.name == "DATA_HELLO" and record.fields["channel"] != channel:
                self.broken("channel", where, f"channel {record.fields['channel']}")
            if record.name == "PAGES":
                if round_number not in self.begun[channel]:
                    self.begun[channel][round_number] = record
                named += self.check_pages_record(record, channel, round_number)
            elif record.name == "ROUND_END":
                if record.fields["round"] != round_number:
                    self.broken("round", where, f"ROUND_END {record.fields['round']} in round {round_number}")
                elif record.fields["pages"] != named:
                    self.broken("round-end", where, f"says {record.fields['pages']} pages, there were {named}")
                self.begun[channel].setdefault(round_number, record)
                self.ended[channel].append(record)
                round_number, named = round_number + 1, 0
        if named and not self.cut:
            self.broken("round", name, f"round {round_number} was not ended")

    def check_data(self, config):
        self.npages = sum(size for _, size in config.fields["regions"]) // PAGE
        self.keep = self.find("control.s2t", "RAM_HASH") is not None
        self.memory = collections.defaultdict(list)  # round -> [(page, its bytes, or None: zeros)]
        self.named = bytearray(self.npages)
        self.damaged = collections.defaultdict(set)
        self.mended = collections.defaultdict(set)
        self.kinds = collections.Counter()
        self.begun = [{} for _ in range(self.nchannels)]
        self.ended = [[] for _ in range(self.nchannels)]
        for channel in range(self.nchannels):
            if f"data{channel}.s2t" in self.streams:
                self.check_channel(f"data{channel}.s2t", channel)
        rounds = {len(ended) for ended in self.ended}
        if len(rounds) != 1 and not self.cut:
            self.broken("round", "data", f"channels ended {sorted(rounds)} rounds")
        self.rounds = min(rounds)
        if self.rounds and not self.cut:
            for wrong, text in ((0, "not named"), (2, "named more than once")):
                page = self.named.find(wrong)
                if page >= 0:
                    self.broken("round-0", "data", f"page {page} {text} in round 0")

    def check_round_done(self):
        """Returns the pages that are damaged after the last acknowledged round."""
        damaged, expected = set(), 0
        for record in self.streams["control.t2s"]:
            if record.name != "ROUND_DONE":
                continue
            number = record.fields["round"]
            where = f"control.t2s: ROUND_DONE {number}"
            if number != expected:
                self.broken("round-done", where, f"round {expected} was expected")
                break
            if number >= self.rounds:
                self.broken("round-done", where, "not all channels have ended this round")
                break
            damaged = (damaged - self.mended[number]) | self.damaged[number]
            if record.fields["damaged"] != len(damaged):
                self.broken("round-done", where, f"says {record.fields['damaged']} damaged pages: {len(damaged)}")
            expected += 1
        if expected < self.rounds and not self.cut:
            self.broken("round-done", "control.t2s", f"round {expected} is not acknowledged")
        return damaged, expected

    def check_ram_hash(self):
        """Plays the rounds into memory; every page is named in round 0, so that nothing of it is unknown."""
        hashes = {
            record.fields["round"]: record.fields["xxh3"]
            for record in self.streams["control.s2t"]
            if record.name == "RAM_HASH"
        }
        memory = bytearray(self.npages * PAGE)
        for number in range(self.rounds):
            for page, data in self.memory[number]:
                memory[page * PAGE : (page + 1) * PAGE] = data if data is not None else bytes(PAGE)
            if number in hashes and xxhash.xxh3_64_intdigest(memory) != hashes.pop(number):
                self.broken("ram-hash", "data", f"memory after round {number} is another")
        if hashes and not self.cut:
            self.broken("ram-hash", "control.s2t", f"RAM_HASH of rounds that were not sent: {sorted(hashes)}")

    def check_final(self, state, ready, damaged, acknowledged):
        if state:
            final = state.fields["final_round"]
            if any(len(ended) > final + 1 for ended in self.ended):
                self.broken("final", "control.s2t: STATE", f"final round {final}, but {self.rounds} were sent")
            if ready and acknowledged != final + 1:
                self.broken("final", "control.t2s: READY", f"{acknowledged} rounds of {final + 1} acknowledged")
        if ready and not state:
            self.broken("final", "control.t2s: READY", "without STATE")
        if ready and damaged:
            self.broken("damaged", "control.t2s: READY", f"{len(damaged)} damaged pages, page {min(damaged)} one")

    # Hand-over

    def check_handover(self, ready):
        own = self.find("control.s2t", "OWN")
        answers = [
            record
            for name, records in self.streams.items()
            for record in records
            if record.name in ("TAKEN", "REFUSED_OWN", "UNKNOWN")
        ]
        if own and not ready:
            self.broken("handover", "control.s2t: OWN", "without READY")
        for answer in answers:
            if answer.name != "UNKNOWN" and not own:
                self.broken("handover", f"{answer.file}: {answer.name}", "without OWN")
        if len({answer.name for answer in answers}) > 1:
            said = ", ".join(f"{answer.file}: {answer.name}" for answer in answers)
            self.broken("handover", "answers", f"differ: {said}")
        for name, records in self.streams.items():
            for record in records:
                if record.name == "DONE" and not any(a.file == name.replace("s2t", "t2s") for a in answers):
                    self.broken("handover", f"{name}: DONE", "without an answer on this connection")
                if record.name == "ASK" and not own:
                    self.broken("handover", f"{name}: ASK", "without OWN")

    def check_between(self):
        """What one connection's record must wait for on another; only where the recorder kept the order."""
        path = os.path.join(self.directory, "order")
        if not os.path.exists(path):
            return
        passed = Passed(path)

        def after(first, second):
            if first and second and passed.before(first, second) is False:
                self.broken("between", f"{second.file}: {second.name} #{second.number}",
                            f"before {first.file}: {first.name} #{first.number}")  # fmt: skip

        source, target = "control.s2t", "control.t2s"
        for first, second in (("HELLO", "HELLO_OK"), ("CONFIG", "CONFIG_OK"), ("STATE", "READY"),
                              ("OWN", "TAKEN"), ("OWN", "REFUSED_OWN")):  # fmt: skip
            after(self.find(source, first), self.find(target, second))
        for first, second in (("HELLO_OK", "CONFIG"), ("READY", "OWN"), ("TAKEN", "DONE"), ("REFUSED_OWN", "DONE")):
            after(self.find(target, first), self.find(source, second))
        for channel in range(self.nchannels):
            after(self.find(target, "CONFIG_OK"), self.find(f"data{channel}.s2t", "DATA_HELLO"))
        done = [record for record in self.streams[target] if record.name == "ROUND_DONE"]
        for number, record in enumerate(done):
            for channel in range(self.nchannels):
                if number < len(self.ended[channel]):
                    after(self.ended[channel][number], record)
                after(record, self.begun[channel].get(number + 1))

    # All of it

    def way_of(self, name):
        kind, _, way = name.partition(".")
        for base, exact in (("control", True), ("data", False), ("ask", False)):
            if kind == base if exact else kind.startswith(base) and kind[len(base) :].isdecimal():
                return f"{base}.{way}"
        return None

    def read_all(self):
        for name in sorted(os.listdir(self.directory)):
            if name == "order":
                continue
            way = self.way_of(name)
            if way in ORDER:
                self.read_stream(name, way)
                self.check_order(name, way)
            elif os.path.getsize(os.path.join(self.directory, name)):
                rule = "direction" if way == "data.t2s" else "files"
                self.broken(rule, name, "bytes that belong to nothing")

    def check_channels(self, hello, hello_ok):
        self.nchannels = hello.fields["channels"]
        if hello_ok:
            if self.nchannels > hello_ok.fields["most_channels"] and self.find("control.s2t", "CONFIG"):
                self.broken("channel", "control.s2t: CONFIG", f"{self.nchannels} channels are more than the target takes")
            if not hello.fields["oldest"] <= hello_ok.fields["version"] <= hello.fields["version"]:
                self.broken("field", "control.t2s: HELLO_OK", f"version {hello_ok.fields['version']}")
        there = {name for name in self.streams if name.startswith("data")}
        wanted = {f"data{channel}.s2t" for channel in range(self.nchannels)}
        if there - wanted or (there and wanted - there and not self.cut):
            self.broken("channel", "data", f"{sorted(there)}, where there are {self.nchannels} channels")

    def check(self):
        self.read_all()
        if not {"control.s2t", "control.t2s"} <= set(self.streams):
            self.broken("files", self.directory, "no control.s2t and control.t2s")
            return
        hello, hello_ok = self.find("control.s2t", "HELLO"), self.find("control.t2s", "HELLO_OK")
        config, state = self.find("control.s2t", "CONFIG"), self.find("control.s2t", "STATE")
        ready = self.find("control.t2s", "READY")
        # A side that ends the migration early leaves the other connections where they are.
        if self.find("control.s2t", "CANCEL") or self.find("control.t2s", "REFUSE"):
            self.cut = True
        if not self.cut:
            for where, text in self.cut_off:
                self.broken("cut", where, text)
        if not hello:
            self.broken("order", "control.s2t", "no HELLO")
            return
        self.check_sessions(hello.fields["session"])
        self.check_channels(hello, hello_ok)
        if state:
            self.check_state(state)
        self.ended = [[] for _ in range(self.nchannels)]
        self.begun = [{} for _ in range(self.nchannels)]
        self.rounds, self.kinds, self.npages = 0, collections.Counter(), 0
        if config and hello.fields["flags"] & 1 and any(name.startswith("data") for name in self.streams):
            self.broken("order", "data", "data connections in a dry run")
        elif config:
            self.check_data(config)
            damaged, acknowledged = self.check_round_done()
            if self.keep:
                self.check_ram_hash()
            self.check_final(state, ready, damaged, acknowledged)
        self.check_handover(ready)
        self.check_between()

    def summary(self):
        records = sum(len(stream) for stream in self.streams.values())
        kinds = ", ".join(f"{count} {KINDS[kind]}" for kind, count in sorted(self.kinds.items()))
        last = self.find("control.t2s", "TAKEN") or (self.streams["control.t2s"] or [None])[-1]
        return (
            f"wirecheck: {records} records, {self.nchannels} channels, {self.rounds} rounds, "
            f"{self.npages} pages ({kinds or 'none sent'}), ended with {last.name if last else 'nothing'}: all rules hold"
        )


def main():
    parser = argparse.ArgumentParser(description="verifies a recorded migration against docs/wire.md")
    parser.add_argument("--dump", action="store_true", help="print every record, field by field")
    parser.add_argument("--cut", action="store_true", help="the recording is of a migration that was cut off")
    parser.add_argument("directory")
    arguments = parser.parse_args()
    if not os.path.isdir(arguments.directory):
        print(f"wirecheck: {arguments.directory}: not a directory", file=sys.stderr)
        return 2
    checker = Checker(arguments.directory, sys.stdout if arguments.dump else None, arguments.cut)
    checker.check()
    for rule, text in checker.problems:
        print(f"wirecheck: {rule}: {text}", file=sys.stderr)
    if not checker.problems:
        print(checker.summary())
    return 1 if checker.problems else 0


if __name__ == "__main__":
    sys.exit(main())
