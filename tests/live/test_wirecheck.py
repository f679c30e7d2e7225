# SPDX-License-Identifier: GPL-2.0-or-later
"""
tests/wirecheck.py and recorder.py themselves, without KVM: a recording made here from docs/wire.md passes, and each of
wirecheck's rules is seen to fail on one that breaks it.
"""

import io
import os
import random
import socket
import struct
import sys
import threading

import pytest
import xxhash

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import wirecheck  # noqa: E402  (the path comes first)
from recorder import Recorder  # noqa: E402

SESSION = bytes(range(16))
OTHER_SESSION = bytes(16)
REGIONS = ((0, 4 << 20), (1 << 32, 2 << 20))
NPAGES = sum(size for _, size in REGIONS) // 4096
HELLO, CONFIG, STATE, OWN, DONE, CANCEL, ASK, RAM_HASH = range(1, 9)
HELLO_OK, CONFIG_OK, REFUSE, ROUND_DONE, READY, TAKEN, REFUSED_OWN, UNKNOWN = range(32, 40)
HEARTBEAT, DATA_HELLO, PAGES, ROUND_END = range(64, 68)
DATA, ZERO, DISCARDED = range(3)


def text(string):
    return struct.pack("<H", len(string)) + string.encode()


def section(name, fields, instance=0, version=1):
    payload = b"".join(
        struct.pack("<HBBI", number, size, 0, len(values)) + b"".join(v.to_bytes(size, "little") for v in values)
        for number, size, values in fields
    )
    return struct.pack("<H", len(name)) + name.encode() + struct.pack("<IHI", instance, version, len(payload)) + payload


def h64(data):
    return xxhash.xxh3_64_intdigest(data)


class Event:
    """One record, where and when it passed."""

    def __init__(self, file, kind, head=b"", body=b""):
        self.file, self.kind, self.head, self.body = file, kind, head, body
        self.sequence = None  # None: as it should be
        self.spoil = 0  # added to the checksum


class Recording:
    """Events in the order in which they passed."""

    def __init__(self):
        self.events = []
        self.tail = {}  # file -> bytes after its last record

    def add(self, *what):
        self.events.append(Event(*what))

    def find(self, file, kind, skip=0):
        return [event for event in self.events if event.file == file and event.kind == kind][skip]

    def remove(self, event):
        self.events.remove(event)

    def insert_after(self, event, *what):
        self.events.insert(self.events.index(event) + 1, Event(*what))

    def write(self, directory):
        counts, lengths = {}, {}
        with open(os.path.join(directory, "order"), "w", encoding="ascii") as order:
            for when, event in enumerate(self.events):
                number = counts.get(event.file, 0)
                counts[event.file] = number + 1
                number = number if event.sequence is None else event.sequence
                header = struct.pack("<IIQQQ", event.kind, len(event.head), len(event.body), number, 0)
                checksum = (h64(header + event.head) + event.spoil) % (1 << 64)
                data = header[:24] + struct.pack("<Q", checksum) + event.head + event.body
                with open(os.path.join(directory, event.file), "ab") as file:
                    file.write(data)
                order.write(f"{when} {event.file} {lengths.get(event.file, 0)} {len(data)}\n")
                lengths[event.file] = lengths.get(event.file, 0) + len(data)
        for name, data in self.tail.items():
            with open(os.path.join(directory, name), "ab") as file:
                file.write(data)


def content(page, generation):
    return random.Random(page * 1000 + generation).randbytes(4096)


def pages(number, runs, generation=0, wrong=()):
    """Head and body of PAGES; the pages in `wrong` do not fit their hashes."""
    head = struct.pack("<II", number, len(runs)) + b"".join(struct.pack("<QII", *run) for run in runs)
    body = b""
    for first, count, kind in runs:
        if kind == DATA:
            for page in range(first, first + count):
                data = content(page, generation)
                head += struct.pack("<Q", h64(data) ^ (page in wrong))
                body += data
    return head, body


def round_end(number, count):
    return struct.pack("<IQ", number, count)


def hello(session=SESSION, channels=2, flags=0, magic=b"TERNMIGR", page=4096, arch=1):
    return magic + struct.pack("<HHIIII", 1, 1, page, arch, channels, flags) + session + text("tern 1, Linux 6")


def config(regions=REGIONS, json=b'{"cpus": 1}', told=section("cpuid", [(1, 4, [1, 2])])):
    head = struct.pack("<I", len(regions)) + b"".join(struct.pack("<QQ", *region) for region in regions)
    return head + struct.pack("<I", len(json)) + json + struct.pack("<I", len(told)) + told


def state(body, final):
    return struct.pack("<IIQ", final, 0, h64(body)), body


def good():
    """Two channels, three chunks, three rounds; page 5 is damaged in round 0, page 6 in round 1, mended a round later."""
    r = Recording()
    r.add("control.s2t", HELLO, hello())
    r.add("control.t2s", HELLO_OK, struct.pack("<HI", 1, 16) + text("tern 1, Linux 6"))
    r.add("control.s2t", 0x80001234, b"not known")
    r.add("control.s2t", CONFIG, config())
    r.add("control.t2s", CONFIG_OK, text(""))
    for channel in range(2):
        r.add(f"data{channel}.s2t", DATA_HELLO, b"TERNDATA" + SESSION + struct.pack("<I", channel))
    r.add("data0.s2t", PAGES, *pages(0, [(0, 8, DATA), (8, 504, ZERO)], wrong=[5]))
    r.add("data1.s2t", PAGES, *pages(0, [(512, 500, ZERO), (1012, 12, DISCARDED)]))
    r.add("data0.s2t", PAGES, *pages(0, [(1024, 500, ZERO), (1524, 12, DATA)]))
    r.add("data0.s2t", ROUND_END, round_end(0, 1024))
    r.add("data1.s2t", ROUND_END, round_end(0, 512))
    r.add("control.t2s", ROUND_DONE, struct.pack("<IQ", 0, 1))
    r.add("control.t2s", HEARTBEAT)
    r.add("control.s2t", HEARTBEAT)
    r.add("data0.s2t", PAGES, *pages(1, [(5, 2, DATA)], 1, wrong=[6]))
    r.add("data0.s2t", ROUND_END, round_end(1, 2))
    r.add("data1.s2t", ROUND_END, round_end(1, 0))
    r.add("control.t2s", ROUND_DONE, struct.pack("<IQ", 1, 1))
    machine = section("cpu", [(1, 8, [7] * 10), (0x8002, 1, [1])]) + section("cpu", [(1, 8, [8])], instance=1)
    r.add("control.s2t", STATE, *state(machine, 2))
    r.add("data0.s2t", PAGES, *pages(2, [(6, 1, ZERO)], 2))
    r.add("data0.s2t", ROUND_END, round_end(2, 1))
    r.add("data1.s2t", PAGES, *pages(2, [(512, 2, DATA)], 2))
    r.add("data1.s2t", ROUND_END, round_end(2, 2))
    r.add("control.t2s", ROUND_DONE, struct.pack("<IQ", 2, 0))
    r.add("control.t2s", READY, SESSION + struct.pack("<Q", 1000))
    r.add("control.s2t", OWN, SESSION)
    r.add("control.t2s", TAKEN, SESSION + struct.pack("<Q", 1000))
    r.add("control.s2t", DONE, SESSION)
    return r


def check(tmp_path, recording, **options):
    recording.write(tmp_path)
    checker = wirecheck.Checker(str(tmp_path), **options)
    checker.check()
    return checker.problems


def test_good(tmp_path):
    assert check(tmp_path, good()) == []


def asked(answer=TAKEN):
    """The answer to OWN was lost, and asked for again."""
    r = good()
    r.remove(r.find("control.t2s", TAKEN))
    r.remove(r.find("control.s2t", DONE))
    r.add("ask0.s2t", ASK, SESSION)
    r.add("ask0.t2s", answer, SESSION + (b"" if answer == UNKNOWN else struct.pack("<Q", 5)))
    r.add("ask0.s2t", DONE, SESSION)
    return r


def cancelled():
    r = good()
    for event in r.events[r.events.index(r.find("data0.s2t", ROUND_END, 1)) :]:
        r.remove(event)
    r.add("control.s2t", CANCEL, text("wanted"))
    r.tail["data0.s2t"] = b"half a"
    return r


def dry_run():
    r = good()
    r.events = r.events[: r.events.index(r.find("control.t2s", CONFIG_OK)) + 1]
    r.find("control.s2t", HELLO).head = hello(flags=1)
    return r


def refused():
    r = good()
    r.events = r.events[: r.events.index(r.find("control.s2t", CONFIG)) + 1]
    r.add("control.t2s", REFUSE, text("no such CPU"))
    return r


def fewer_channels():
    """The target takes only one of two."""
    r = refused()
    r.events = r.events[:2]
    r.find("control.t2s", HELLO_OK).head = struct.pack("<HI", 1, 1) + text("")
    r.add("control.s2t", CANCEL, text("one channel is not enough"))
    return r


def hashed():
    """With the hash of all memory in the final round."""
    r = good()
    memory = bytearray(NPAGES * 4096)
    for first, count, generation in ((0, 8, 0), (1524, 12, 0), (5, 2, 1), (512, 2, 2)):
        for page in range(first, first + count):
            memory[page * 4096 : (page + 1) * 4096] = content(page, generation)
    memory[6 * 4096 : 7 * 4096] = bytes(4096)
    r.insert_after(r.find("control.s2t", HEARTBEAT), "control.s2t", RAM_HASH, struct.pack("<IQ", 2, h64(memory)))
    return r


@pytest.mark.parametrize("make", [asked, cancelled, dry_run, refused, fewer_channels, hashed], ids=lambda make: make.__name__)
def test_other_good_ones(tmp_path, make):
    assert check(tmp_path, make()) == []


def test_cut_off(tmp_path):
    r = good()
    for event in r.events[r.events.index(r.find("data1.s2t", ROUND_END, 1)) :]:
        r.remove(event)
    r.tail["data1.s2t"] = b"half a header"
    assert check(tmp_path, r, cut=True) == []
    assert {"cut", "round-done"} & {rule for rule, _ in wirecheck_again(tmp_path)}


def wirecheck_again(tmp_path):
    checker = wirecheck.Checker(str(tmp_path))
    checker.check()
    return checker.problems


def test_dump(tmp_path):
    out = io.StringIO()
    assert check(tmp_path, good(), dump=out) == []
    for expected in ("HELLO", "session 000102", "region 0x100000000 + 0x200000", "run 5 + 2 data", "section cpu.1",
                     "final_round 2", "2 optional u8 0x1", "10 in all"):  # fmt: skip
        assert expected in out.getvalue()


# One way to break each rule, and more where a rule has several sides.
BREAKS = []


def breaks(rule):
    def note(function):
        BREAKS.append(pytest.param(rule, function, id=f"{rule}/{function.__name__}"))
        return function

    return note


@breaks("files")
def no_target(r):
    r.events = [event for event in r.events if event.file != "control.t2s"]


@breaks("files")
def stranger(r):
    r.tail["other0.s2t"] = b"x"


@breaks("cut")
def half_a_record(r):
    r.tail["data1.s2t"] = b"half a header"


@breaks("cut")
def half_a_body(r):
    r.tail["data1.s2t"] = struct.pack("<IIQQQ", PAGES, 24, 4096, 7, 0) + bytes(3000)


@breaks("sequence")
def skipped_number(r):
    r.find("data0.s2t", PAGES, 1).sequence = 3


@breaks("checksum")
def wrong_checksum(r):
    r.find("control.s2t", CONFIG).spoil = 1


@breaks("size")
def body_for_ready(r):
    r.find("control.t2s", READY).body = b"x"


@breaks("size")
def too_many_runs(r):
    r.find("data0.s2t", PAGES).head = struct.pack("<II", 0, 513) + struct.pack("<QII", 0, 1, ZERO) * 513


@breaks("size")
def long_configuration(r):
    r.find("control.s2t", CONFIG).head = config(json=b'"' + b"x" * (256 << 10) + b'"')


@breaks("type")
def unknown_mandatory(r):
    r.insert_after(r.find("control.s2t", HELLO), "control.s2t", 9)


@breaks("direction")
def target_says_own(r):
    r.insert_after(r.find("control.t2s", READY), "control.t2s", OWN, SESSION)


@breaks("direction")
def heartbeat_on_data(r):
    r.insert_after(r.find("data0.s2t", PAGES), "data0.s2t", HEARTBEAT)


@breaks("direction")
def target_writes_on_data(r):
    r.tail["data0.t2s"] = b"x"


@breaks("field")
def short_head(r):
    r.find("control.t2s", READY).head = SESSION


@breaks("field")
def long_head(r):
    r.find("control.s2t", OWN).head += b"x"


@breaks("field")
def wrong_magic(r):
    r.find("control.s2t", HELLO).head = hello(magic=b"TERNMIGS")


@breaks("field")
def wrong_page_size(r):
    r.find("control.s2t", HELLO).head = hello(page=16384)


@breaks("field")
def wrong_architecture(r):
    r.find("control.s2t", HELLO).head = hello(arch=3)


@breaks("field")
def seventeen_channels(r):
    r.find("control.s2t", HELLO).head = hello(channels=17)


@breaks("field")
def text_not_utf8(r):
    r.find("control.t2s", CONFIG_OK).head = b"\x01\x00\xff"


@breaks("field")
def long_text(r):
    r.find("control.t2s", CONFIG_OK).head = text("x" * 1025)


@breaks("field")
def newer_version_chosen(r):
    r.find("control.t2s", HELLO_OK).head = struct.pack("<HI", 2, 16) + text("")


@breaks("config")
def overlapping_regions(r):
    r.find("control.s2t", CONFIG).head = config(regions=((0, 4 << 20), (2 << 20, 2 << 20)))


@breaks("config")
def configuration_not_json(r):
    r.find("control.s2t", CONFIG).head = config(json=b"{")


@breaks("sections")
def told_cut_off(r):
    r.find("control.s2t", CONFIG).head = config(told=section("cpuid", [(1, 4, [1])])[:-1])


@breaks("sections")
def state_section_twice(r):
    event = r.find("control.s2t", STATE)
    event.head, event.body = state(section("cpu", []) * 2, 2)


@breaks("sections")
def state_field_twice(r):
    event = r.find("control.s2t", STATE)
    event.head, event.body = state(section("cpu", [(1, 1, [1]), (1, 1, [1])]), 2)


@breaks("order")
def config_twice(r):
    event = r.find("control.s2t", CONFIG)
    r.insert_after(event, event.file, event.kind, event.head)


@breaks("order")
def cancel_after_own(r):
    r.insert_after(r.find("control.s2t", OWN), "control.s2t", CANCEL, text(""))


@breaks("order")
def data_in_a_dry_run(r):
    r.find("control.s2t", HELLO).head = hello(flags=1)


@breaks("order")
def heartbeat_before_hello(r):
    r.events.insert(0, Event("control.s2t", HEARTBEAT))


@breaks("session")
def data_of_another_session(r):
    r.find("data1.s2t", DATA_HELLO).head = b"TERNDATA" + OTHER_SESSION + struct.pack("<I", 1)


@breaks("session")
def own_of_another_session(r):
    r.find("control.s2t", OWN).head = OTHER_SESSION


@breaks("channel")
def one_channel_missing(r):
    r.events = [event for event in r.events if event.file != "data1.s2t"]


@breaks("channel")
def wrong_channel_number(r):
    r.find("data1.s2t", DATA_HELLO).head = b"TERNDATA" + SESSION + struct.pack("<I", 0)


@breaks("channel")
def more_channels_than_taken(r):
    r.find("control.t2s", HELLO_OK).head = struct.pack("<HI", 1, 1) + text("")


@breaks("ram-hash")
def memory_of_another_round(r):
    r.events = hashed().events
    event = r.find("control.s2t", RAM_HASH)
    event.head = struct.pack("<I", 1) + event.head[4:]


@breaks("ram-hash")
def hash_of_a_round_that_never_came(r):
    r.events = hashed().events
    event = r.find("control.s2t", RAM_HASH)
    event.head = struct.pack("<I", 3) + event.head[4:]


@breaks("field")
def unknown_state_flag(r):
    event = r.find("control.s2t", STATE)
    event.head = event.head[:4] + struct.pack("<I", 2) + event.head[8:]


@breaks("run")
def page_outside(r):
    event = r.find("data0.s2t", PAGES, 2)
    event.head, event.body = pages(1, [(NPAGES, 1, ZERO), (5, 1, DATA)], 1)


@breaks("run")
def run_across_chunks(r):
    event = r.find("data1.s2t", PAGES)
    event.head, event.body = pages(0, [(513, 512, ZERO)])


@breaks("run")
def unknown_kind(r):
    r.find("data1.s2t", PAGES).head = struct.pack("<II", 0, 1) + struct.pack("<QII", 512, 512, 3)


@breaks("run")
def run_of_nothing(r):
    r.find("data1.s2t", PAGES).head = struct.pack("<II", 0, 1) + struct.pack("<QII", 512, 0, ZERO)


@breaks("chunk-channel")
def page_on_the_other_channel(r):
    event = r.find("data1.s2t", PAGES, 1)
    event.head, event.body = pages(2, [(6, 2, DATA)], 2)


@breaks("body")
def body_too_short(r):
    event = r.find("data0.s2t", PAGES)
    event.body = event.body[:-4096]


@breaks("body")
def too_many_data_pages(r):
    event = r.find("data0.s2t", PAGES)
    event.head, event.body = pages(0, [(0, 512, DATA), (1024, 1, DATA)])
    event.body = event.body[: 512 * 4096]


@breaks("round")
def round_not_ended(r):
    r.remove(r.find("data0.s2t", ROUND_END, 2))


@breaks("round")
def pages_of_another_round(r):
    event = r.find("data1.s2t", PAGES, 1)
    event.head, event.body = pages(1, [(512, 2, DATA)], 2)


@breaks("round")
def round_skipped(r):
    r.find("data1.s2t", ROUND_END, 1).head = round_end(2, 0)


@breaks("round-end")
def wrong_count(r):
    r.find("data0.s2t", ROUND_END, 1).head = round_end(1, 3)


@breaks("round-0")
def page_forgotten(r):
    event = r.find("data1.s2t", PAGES)
    event.head, event.body = pages(0, [(512, 511, ZERO)])
    r.find("data1.s2t", ROUND_END).head = round_end(0, 511)


@breaks("round-0")
def page_twice(r):
    event = r.find("data1.s2t", PAGES)
    event.head, event.body = pages(0, [(512, 512, ZERO), (600, 1, ZERO)])
    r.find("data1.s2t", ROUND_END).head = round_end(0, 513)


@breaks("round-done")
def damage_not_seen(r):
    r.find("control.t2s", ROUND_DONE).head = struct.pack("<IQ", 0, 0)


@breaks("round-done")
def round_not_acknowledged(r):
    r.remove(r.find("control.t2s", ROUND_DONE, 1))


@breaks("final")
def round_after_the_final_one(r):
    event = r.find("control.s2t", STATE)
    event.head, event.body = state(event.body, 1)


@breaks("final")
def ready_without_state(r):
    r.remove(r.find("control.s2t", STATE))


@breaks("state")
def state_changed(r):
    event = r.find("control.s2t", STATE)
    event.body = event.body[:-1] + bytes([event.body[-1] ^ 1])


@breaks("damaged")
def ready_though_damaged(r):
    r.remove(r.find("data0.s2t", PAGES, 3))
    r.find("data0.s2t", ROUND_END, 2).head = round_end(2, 0)
    r.find("control.t2s", ROUND_DONE, 2).head = struct.pack("<IQ", 2, 1)


@breaks("damaged")
def one_flipped_bit(r):
    event = r.find("data1.s2t", PAGES, 1)
    event.body = bytes([event.body[0] ^ 1]) + event.body[1:]
    r.find("control.t2s", ROUND_DONE, 2).head = struct.pack("<IQ", 2, 1)


def move_before(r, event, other):
    r.remove(event)
    r.events.insert(r.events.index(other), event)


@breaks("between")
def data_before_config_ok(r):
    move_before(r, r.find("data0.s2t", DATA_HELLO), r.find("control.t2s", CONFIG_OK))


@breaks("between")
def round_before_its_turn(r):
    move_before(r, r.find("data0.s2t", PAGES, 2), r.find("control.t2s", ROUND_DONE))


@breaks("between")
def acknowledged_too_early(r):
    move_before(r, r.find("control.t2s", ROUND_DONE), r.find("data1.s2t", ROUND_END))


@breaks("between")
def own_before_ready(r):
    move_before(r, r.find("control.s2t", OWN), r.find("control.t2s", READY))


@breaks("handover")
def own_without_ready(r):
    r.remove(r.find("control.t2s", READY))


@breaks("handover")
def two_answers(r):
    r.add("ask0.s2t", ASK, SESSION)
    r.add("ask0.t2s", REFUSED_OWN, SESSION + text("no lock"))


@breaks("handover")
def done_without_answer(r):
    r.remove(r.find("control.t2s", TAKEN))


@pytest.mark.parametrize("rule, spoil", BREAKS)
def test_rule_fails(tmp_path, rule, spoil):
    recording = good()
    spoil(recording)
    problems = check(tmp_path, recording)
    assert rule in {broken for broken, _ in problems}, problems


def test_every_rule_is_seen_to_fail():
    assert {parameter.values[0] for parameter in BREAKS} == set(wirecheck.RULES)


def test_random_bytes_never_raise(tmp_path):
    """Whatever is in the files, the answer is a list of problems."""
    recording = good()
    recording.write(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name != "order"}
    rand = random.Random(1)
    for _ in range(60):
        name = rand.choice(sorted(files))
        spoilt = bytearray(files[name])
        for _ in range(rand.randint(1, 4)):
            spoilt[rand.randrange(len(spoilt))] ^= 1 << rand.randrange(8)
        (tmp_path / name).write_bytes(spoilt[: rand.randint(1, len(spoilt))])
        assert wirecheck_again(tmp_path)
        (tmp_path / name).write_bytes(files[name])
    assert wirecheck_again(tmp_path) == []


# The recorder


def converse(recording, near, far):
    """Says the recording's records through `near` (one socket per connection) while `far` is accepted from."""
    recording_dir = {}
    ends = {}
    for event in recording.events:
        connection = event.file.split(".")[0]
        if connection not in ends:
            source = near()
            ends[connection] = [source, None]
        number = recording_dir.get(event.file, 0)
        recording_dir[event.file] = number + 1
        header = struct.pack("<IIQQQ", event.kind, len(event.head), len(event.body), number, 0)
        data = header[:24] + struct.pack("<Q", h64(header + event.head)) + event.head + event.body
        if ends[connection][1] is None:
            ends[connection][1] = far.accept()[0]
        sender, receiver = ends[connection] if event.file.endswith("s2t") else ends[connection][::-1]
        got = []
        reading = threading.Thread(target=lambda r=receiver, n=len(data), g=got: g.append(r.recv(n, socket.MSG_WAITALL)))
        reading.start()
        sender.sendall(data)
        reading.join(10)
        assert got == [data]
    for pair in ends.values():
        pair[0].close()
        pair[1].close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_recorder(tmp_path, kind):
    if kind == "tcp":
        far = socket.create_server(("127.0.0.1", 0))
        target, listen = f"tcp:127.0.0.1:{far.getsockname()[1]}", "tcp:127.0.0.1:0"
    else:
        far = socket.socket(socket.AF_UNIX)
        far.bind(str(tmp_path / "target"))
        far.listen()
        target, listen = f"unix:{tmp_path}/target", f"unix:{tmp_path}/source"
    far.settimeout(10)
    recorder = Recorder(listen, target, str(tmp_path / "recorded"))

    def near():
        if kind == "tcp":
            host, port = recorder.uri[4:].rsplit(":", 1)
            return socket.create_connection((host, int(port)), timeout=10)
        made = socket.socket(socket.AF_UNIX)
        made.connect(recorder.uri[5:])
        return made

    for recording in (good(), asked()):
        converse(recording, near, far)
        assert recorder.wait(10)
    recorder.close()
    far.close()
    assert [os.path.basename(path) for path in recorder.attempts] == ["0", "1"]
    for path, names in zip(recorder.attempts, ({"control", "data0", "data1"}, {"control", "data0", "data1", "ask0"}),
                           strict=True):  # fmt: skip
        assert {name.split(".")[0] for name in os.listdir(path)} == names | {"order"}
        checker = wirecheck.Checker(path)
        checker.check()
        assert checker.problems == []
