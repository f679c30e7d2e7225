#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrations that go wrong on purpose: one fault each, at a stage, on a side, with all that is not named by these three
chosen from a seed. After each the harness plays the operator as docs/lifecycle.md says, and judges: never lost, never twice.

usage: faults.py [--seed N] [--count N] [--jobs N] [--only SEED:STAGE:FAULT:SIDE[:tls]]...

Prints a line for each fault that was not survived as it should be, and a table of stage x fault x side with counts, in which
a zero is a failure too: a stage in which nothing happened proves nothing. One in TLS_EVERY comes over TLS; they have a table
of their own.
"""

import argparse
import collections
import multiprocessing
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import relay as wire  # noqa: E402  (the path comes first)
import tls_ends  # noqa: E402
import tls_keys  # noqa: E402
from qmp import Qmp, QmpError  # noqa: E402
from relay import SOURCE, TARGET, Relay, Trigger  # noqa: E402
from vm import Host, Receiver, Vm  # noqa: E402

SILENCE_S = 0.5
TOKEN_MS = 5
IMAGE_BYTES = 8 << 20
# The guest may stand still for as long as both ends need to notice that they wait in vain, and then some on a busy host. The
# time for which the harness itself has stopped something, or the operator has not decided, comes on top.
STANDSTILL_S = 3 * SILENCE_S + 2 * SILENCE_S + 3.0
SETTLE_S = 30.0
# Longer than an end that is in doubt needs to ask, and to be answered, if there is anybody.
OPERATOR_S = 4 * SILENCE_S + 1.0
LOAD = f"mode=dirty wset=4M rate=5000 words=512 seconds=0 report=1000ms token=serial,disk token_ms={TOKEN_MS}"
PARAMETERS = {"x_tern_silence": int(SILENCE_S * 1000), "max_bandwidth": 48 << 20, "x_tern_downtime_us": 100000}
NEVER = float("inf")
LACK_MOST = 1000  # tokens that a full disk may have cost at a time
USUAL_BYTES = 5 << 20  # of the source in all

STAGES = {
    "hello": [Trigger(SOURCE, (wire.HELLO,)), Trigger(TARGET, (wire.HELLO_OK,))],
    "config": [Trigger(SOURCE, (wire.CONFIG,)), Trigger(TARGET, (wire.CONFIG_OK,))],
    "channels": [Trigger(SOURCE, (wire.DATA_HELLO,))],
    "round 0": [Trigger(SOURCE, (wire.PAGES, wire.ROUND_END), 0), Trigger(TARGET, (wire.ROUND_DONE,), 0)],
    "rounds": [Trigger(SOURCE, (wire.PAGES, wire.ROUND_END), 1), Trigger(TARGET, (wire.ROUND_DONE,), 1)],
    "state": [Trigger(SOURCE, (wire.STATE,)), Trigger(TARGET, (wire.READY,))],
    "own": [Trigger(SOURCE, (wire.OWN,)), Trigger(TARGET, (wire.TAKEN,))],
    "done": [Trigger(SOURCE, (wire.DONE,)), Trigger(TARGET, (wire.TAKEN,), None, True)],
    "any byte": [Trigger(SOURCE, None)],
}
NETWORK = ("cut", "half-open", "delay", "short writes", "reorder", "bit flip")
PROCESS = ("kill VMM", "kill mover", "stop VMM", "stop mover")
SHORTAGE = ("disk full", "no memory")
FAULTS = NETWORK + PROCESS + SHORTAGE
SIDES = (SOURCE, TARGET)
CELLS = [(stage, fault, side) for stage in STAGES for fault in FAULTS for side in SIDES]
TLS_EVERY = 5

# over: "clear", "tls"
Fault = collections.namedtuple("Fault", "seed stage fault side over", defaults=("clear",))
Result = collections.namedtuple("Result", "fault injected outcome problems story seconds")


class Wrong(Exception):
    """What the judge has against it."""


# ---- Processes ----


class Raw:
    """Keeps the serial line's bytes, so that a line that began here and ended there can be put together."""

    def _read(self, stream, take):
        if stream is self.process.stdout:
            take = self.keep
        while data := stream.read1(65536) if take == self.keep else stream.readline():
            take(data if take == self.keep else data.decode(errors="replace").rstrip("\r\n"))
        stream.close()

    def keep(self, data):
        self.raw.append((time.monotonic(), data))

    def text(self):
        return b"".join(data for _, data in list(self.raw)).replace(b"\r", b"").decode(errors="replace")

    def has_log(self, pattern):
        return any(re.search(pattern, line) for line in list(self.log))

    def mover(self):
        """Its mover's process id, or None."""
        return find_child(self.process.pid, ("tern-source", "tern-target"))

    def alive(self):
        return self.process.poll() is None

    def story(self):
        return f"{self.name}: exit {self.process.poll()}; log:\n  " + "\n  ".join(list(self.log)[-12:])


class Source(Raw, Vm):
    def __init__(self, *arguments, **keywords):
        self.raw = []
        super().__init__(*arguments, **keywords)


class Target(Raw, Receiver):
    def __init__(self, *arguments, **keywords):
        self.raw = []
        super().__init__(*arguments, **keywords)


def read_text(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def is_alive(pid):
    """A process that has ended, and that nobody has waited for yet, is none."""
    stat = read_text(f"/proc/{pid}/stat")
    return bool(stat) and not re.search(r"\) [ZX]", stat)


def find_child(pid, names):
    for child in read_text(f"/proc/{pid}/task/{pid}/children").split():
        if read_text(f"/proc/{child}/comm").strip() in names:
            return int(child) if is_alive(child) else None
        found = find_child(int(child), names)
        if found:
            return found
    return None


def send_signal(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def holds_lock(process, path):
    """Does it hold a write lock on that file?"""
    inode = os.stat(path).st_ino
    where = f"/proc/{process.pid}/fdinfo"
    try:
        numbers = os.listdir(where)
    except OSError:
        return False
    return any(
        re.search(rf"^lock:.*WRITE.*:{inode} ", read_text(os.path.join(where, number)), re.M) for number in numbers
    )


# ---- The judge ----


class DiskJudge(threading.Thread):
    """Watches the tokens on the disk image: one that changes after it was written is another VM's, or the same one's again."""

    MAGIC = int.from_bytes(b"TERNTOK1", "big")

    def __init__(self, path, may_lack):
        """may_lack: some of the guest's writes failed, and it was told so."""
        super().__init__(daemon=True)
        self.path = path
        self.may_lack = may_lack
        self.clocks = {}
        self.problems = []
        self.last = 0
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            self.look(max(1, self.last - 2))

    def look(self, number):
        lacking = 0
        with open(self.path, "rb") as image:
            while len(self.problems) < 3 and lacking <= (LACK_MOST if self.may_lack else 0):
                image.seek(number % (IMAGE_BYTES // 512) * 512)
                magic, value, clock, check = struct.unpack("<QQQQ", image.read(32))
                if value != number or check != ((magic ^ (number * 0x9E3779B97F4A7C15)) + clock) & (2**64 - 1):
                    lacking += 1
                    number += 1
                    continue
                lacking = 0
                if self.clocks.setdefault(number, clock) != clock:
                    self.problems.append(f"disk: token {number} was written twice")
                if clock <= self.clocks.get(self.before(number), 0):
                    self.problems.append(f"disk: token {number} is older than the one before it")
                self.last = max(self.last, number)
                number += 1

    def before(self, number):
        """The token before that one, if it is there."""
        least = number - (LACK_MOST if self.may_lack else 1)
        return next((n for n in range(number - 1, least - 1, -1) if n in self.clocks), None)

    def finish(self):
        self.ended.set()
        self.join(10)
        self.look(1)
        return self.problems


def judge_serial(parts):
    """The tokens of one VM, wherever it ran: each one more than the last. Returns what is wrong."""
    numbers = [int(number) for number in re.findall(r"^token: (\d+)\n", "".join(parts), re.M)]
    if not numbers:
        return ["serial: no token"]
    wrong = [(a, b) for a, b in zip(numbers, numbers[1:]) if b != a + 1]
    return [f"serial: token {b} after {a}" for a, b in wrong[:3]]


def standstill(processes):
    """The longest time in which the serial line of none of them said anything, and when it ended."""
    times = sorted(when for process in processes for when, _ in list(process.raw))
    gaps = [(b - a, b) for a, b in zip(times, times[1:])]
    return max(gaps, default=(0, 0))


# ---- One fault ----


class Trial:
    def __init__(self, host, fault, number):
        self.host = host
        self.fault = fault
        self.random = random.Random(f"{fault.seed}/{fault.stage}/{fault.fault}/{fault.side}")
        self.keys = host.keys if fault.over == "tls" else None
        self.source_name, self.target_name = f"s{number}", f"t{number}"
        self.image = host.image(f"f{number}.img", IMAGE_BYTES)
        self.injected = False
        self.striking = threading.Lock()  # while it happens, and while it is decided that it comes too late
        self.too_late = False
        self.excused_s = 0.0  # for which the guest stood still by the harness's hand
        self.notes = []
        self.problems = []  # of the harness itself
        self.killed = None  # (side, "VMM" or "mover")
        self.killed_at = None
        self.stopped = set()
        self.timers = []
        self.movers = {}
        self.source = self.target = self.relay = self.judge = None

    # -- What goes wrong --

    def choose_trigger(self):
        trigger = self.random.choice(STAGES[self.fault.stage])
        if self.fault.fault in NETWORK and len(STAGES[self.fault.stage]) > 1:
            trigger = next(row for row in STAGES[self.fault.stage] if row.side == self.fault.side)
        if trigger.kind is None:
            return trigger._replace(offset=int(USUAL_BYTES * self.random.random() ** 2))
        # What must hit these very bytes comes before them; a hold too.
        if self.fault.fault in ("bit flip", "reorder"):
            return trigger._replace(after=False)
        return trigger._replace(after=trigger.after or self.random.random() < 0.5)

    def act(self, relay, connection):
        try:
            with self.striking:
                if not self.too_late:
                    self.harm(relay, connection)
        except Exception:  # noqa: BLE001  (on a thread of the relay's, where nobody would hear of it)
            self.problems.append(traceback.format_exc(limit=4))

    def harm(self, relay, connection):
        kind, choose = self.fault.fault, self.random
        self.injected = True
        if kind == "cut":
            relay.cut(choose.choice((0, 0, 0.3, 2 * SILENCE_S)))
        elif kind == "half-open" and choose.random() < 0.2 and connection.is_data:
            relay.swallow_data()
        elif kind == "half-open":
            relay.swallow(choose.choice((0, 0.5, 3 * SILENCE_S, 3600)))
        elif kind == "delay":
            relay.delay(choose.choice((0.05, 0.2, 0.9 * SILENCE_S, 2.5 * SILENCE_S)))
        elif kind == "short writes":
            relay.chop()
        elif kind == "reorder":
            held = [row for row in relay.connections if row.is_data] if choose.random() < 0.5 else []
            relay.hold(choose.choice(held) if held else connection, choose.choice((0.02, 0.1, 0.3, 2 * SILENCE_S)))
        elif kind == "bit flip":
            bodies = self.fault.side == SOURCE and self.fault.stage in ("round 0", "rounds", "state")
            relay.flip(self.fault.side, bodies and choose.random() < 0.6)
        elif kind in SHORTAGE:
            self.starve(kind)
        else:
            self.strike(kind)

    def starve(self, kind):
        """For a while its files cannot be written, or it gets no more memory."""
        victim = self.source if self.fault.side == SOURCE else self.target
        pid, what, least = victim.process.pid, "fsize", 1
        if kind == "no memory":
            if self.random.random() < 0.5:
                pid = self.movers.get(self.fault.side) or victim.mover()
            pages = (read_text(f"/proc/{pid}/statm").split() or "0")[0]
            what, least = "as", int(pages) * os.sysconf("SC_PAGE_SIZE")
        seconds = self.random.choice((0.05, 0.3, 1.5, 3.0))
        self.injected = bool(pid and least) and self.limit(pid, what, least)
        if self.injected:
            self.after(seconds, self.limit, pid, what, "unlimited")

    def limit(self, pid, what, soft):
        """As the user whose process it is: not every root may do it. False: there is no such process any more."""
        result = subprocess.run(
            [*self.host.prefix, "prlimit", "--pid", str(pid), f"--{what}={soft}:"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        if result.returncode and os.path.exists(f"/proc/{pid}/exe"):
            self.problems.append(f"the harness: {result.stderr.strip()}")
        return result.returncode == 0

    def strike(self, kind):
        """SIGKILL, or SIGSTOP and later SIGCONT or SIGKILL."""
        verb, what = kind.split()
        victim = self.source if self.fault.side == SOURCE else self.target
        pid = victim.process.pid if what == "VMM" else self.movers.get(self.fault.side) or victim.mover()
        # At the very end the source's mover lives for a millisecond more.
        time.sleep(0 if self.fault.stage == "done" else self.random.choice((0, 0, 0.001, 0.005)))
        self.injected = pid is not None and send_signal(pid, signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
        if not self.injected:
            return
        if verb == "kill":
            self.killed = (self.fault.side, what)
            self.killed_at = time.monotonic()
            self.after(0, self.see_end, pid)
            return
        seconds = self.random.choice((0.05, 0.3, 1.5 * SILENCE_S, 3 * SILENCE_S))
        self.excused_s += seconds
        self.stopped.add(pid)
        self.after(seconds, self.release, pid, what, self.random.random() < 0.3)

    def release(self, pid, what, dies):
        if dies:
            self.killed = (self.fault.side, what)
            self.killed_at = time.monotonic()
        send_signal(pid, signal.SIGKILL if dies else signal.SIGCONT)
        if dies:
            self.see_end(pid)
        self.stopped.discard(pid)

    def see_end(self, pid):
        """What was killed is there for a while yet, and on a busy host for a long one."""
        vmm = next((row.process for row in (self.source, self.target) if row.process.pid == pid), None)
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end and (vmm.poll() is None if vmm else is_alive(pid)):
            time.sleep(0.002)

    def after(self, seconds, act, *arguments):
        """On a thread of its own; nothing is settled before."""
        timer = threading.Timer(seconds, act, arguments)
        self.timers.append(timer)
        timer.start()

    # -- What can be seen --

    def ask(self, process, command, **arguments):
        """Of one that may have been stopped, or be gone: None."""
        if not process.alive() or process.process.pid in self.stopped:
            return None
        try:
            with Qmp(process.control_path, timeout=3) as qmp:
                return qmp.command(command, **arguments)
        except (OSError, EOFError, QmpError):
            return None

    def source_state(self):
        if not self.source.alive():
            return "gone"
        migration, status = self.ask(self.source, "query-migrate"), self.ask(self.source, "query-status")
        if migration is None or status is None:
            return "?"
        phase = migration.get("x-tern", {}).get("phase", "")
        if status["status"] == "running" and migration["status"] in ("failed", "cancelled"):
            return "here"
        return "doubt" if "doubt" in phase else "?"

    def target_state(self):
        """As its log tells it, which is all that an operator may have."""
        state = "empty"
        for line in list(self.target.log):
            for pattern, name in (
                (r"receive: \S+ comes", "coming"), (r"runs here", "runs"), (r"it waits, paused", "doubt"),
                (r"did not come", "empty"), (r"is taken here", "taking"),
            ):  # fmt: skip
                if re.search(pattern, line):
                    state = name
        if not self.target.alive():
            return "ended"
        return state

    def states(self):
        return self.source_state(), self.target_state()

    def settle(self):
        """Until both ends are done with it, or in a doubt that they do not leave by themselves."""
        end, since, last = time.monotonic() + SETTLE_S, time.monotonic(), None
        while time.monotonic() < end:
            harmed = self.injected
            over = not self.stopped and not any(timer.is_alive() for timer in self.timers)
            now = self.states()  # of after that
            if now != last or not over:
                last, since = now, time.monotonic()
            calm = time.monotonic() - since
            if over and now[0] in ("gone", "here", "doubt") and now[1] in ("runs", "ended", "doubt", "empty"):
                if calm > (OPERATOR_S if "doubt" in now else 0.15) and self.is_over(now, harmed):
                    return now
            time.sleep(0.05)
        raise Wrong(f"not settled within {SETTLE_S} s: source {last[0]}, target {last[1]}")

    def is_over(self, states, harmed):
        """Whether that is still how it is; then no harm comes any more: on a busy host its moment may come after the end."""
        with self.striking:
            self.too_late = self.injected == harmed and self.states() == states
            return self.too_late

    # -- The operator --

    def resolve(self, name, word):
        result = self.host.command("resolve", name, f"--{word}")
        self.notes.append(f"operator: {name} --{word}")
        if result.returncode:
            raise Wrong(f"tern resolve {name} --{word}: {result.stderr.strip()}")

    def operate(self, source, target):
        """docs/lifecycle.md, "What the operator does". Returns the process that has the VM, None when it died with its own."""
        vmm_killed = self.killed and self.killed[1] == "VMM"
        taken = self.target.has_log("is taken here")
        if (source, target) == ("here", "runs"):
            raise Wrong("TWICE: it runs at both ends")
        if source == "here":
            if target == "doubt":
                self.resolve(self.target_name, "drop")
            return self.source
        if target == "runs":
            if source == "doubt":
                self.resolve(self.source_name, "drop")
            return self.target
        if source == "doubt" and target == "doubt":
            if self.random.random() < 0.5:
                self.resolve(self.target_name, "drop")
                self.resolve(self.source_name, "own")
                return self.source
            self.resolve(self.source_name, "drop")
            self.resolve(self.target_name, "own")
            return self.target
        if source == "doubt":
            if taken and vmm_killed and self.killed[0] == TARGET:
                self.resolve(self.source_name, "drop")
                return None
            if taken:
                raise Wrong("LOST: taken by a target that nobody killed")
            self.resolve(self.source_name, "own")
            return self.source
        if target == "doubt":
            if not vmm_killed or self.killed[0] == TARGET:
                raise Wrong("the source gave the VM up without an answer")
            self.resolve(self.target_name, "own")
            return self.target
        if vmm_killed and self.killed[0] == SOURCE and not self.relay.seen[wire.READY]:
            return None
        if vmm_killed and self.killed[0] == SOURCE and self.relay.seen_at.get(wire.CANCEL, NEVER) < self.killed_at:
            return None  # while it lived, stopped, its mover had said that the VM stays there
        if vmm_killed and self.killed[0] == TARGET and taken:
            return None  # it ran there, and died there
        raise Wrong(f"LOST: source {source}, target {target}")

    # -- Judgement --

    def check_runner(self, runner):
        other = self.target if runner is self.source else self.source
        seen = len(runner.raw)
        self.wait(lambda: len(runner.raw) > seen + 3, STANDSTILL_S, f"{runner.name} says nothing any more")
        if not holds_lock(runner.process, self.image):
            raise Wrong(f"{runner.name} runs without the image's lock")
        if other.alive() and holds_lock(other.process, self.image):
            raise Wrong(f"{other.name} holds the image's lock, too")
        runner.type("q")
        self.wait(lambda: re.search(r"^guest: done .*\n", runner.text(), re.M), 20, f"{runner.name} does not end")
        done = re.search(r"^guest: done .*\n", runner.text(), re.M).group(0)
        if not re.search(r"\berrors=0\b", done) or not re.search(r"\bclock_back=0\b", done):
            raise Wrong(f"memory: {done}")
        if runner.wait(20) != 0:
            raise Wrong(f"{runner.name} ended with {runner.process.poll()}")

    def check_words(self, runner):
        """Each end that is left, or ended of itself, has said in a line what happened; and nothing that must not happen."""
        if self.target.has_log("guest memory differs"):
            raise Wrong("the target's memory was not the source's")
        if runner is self.source and not self.source.has_log(r"migration: failed, the VM (runs on|is here)|the VM stays"):
            raise Wrong("the source does not say what happened")
        if not self.target.alive() and self.killed and self.killed[0] == TARGET:
            return
        if runner is not self.target and self.target.has_log(r"receive: \S+ comes"):
            said = r"did not come: \S|process that receives"
            self.wait(lambda: self.target.has_log(said), 3, "the target does not say what happened")
        if runner is None and self.killed[0] == SOURCE and not self.target.alive():
            if not self.target.has_log(r"did not come"):
                raise Wrong("the target ended without a word")

    def wait(self, done, seconds, what):
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise Wrong(f"{what} (within {seconds} s)")
            time.sleep(0.02)

    def judge_all(self, runner, operator_s):
        self.check_words(runner)
        wrong = self.judge.finish()
        parts = [self.source.text()]
        if runner is self.target or (runner is None and self.target.has_log("is taken here")):
            parts.append(self.target.text())
        elif re.search(r"^token: ", self.target.text(), re.M):
            wrong.append("TWICE: tokens from the target too")
        wrong += judge_serial(parts)
        gap, _ = standstill([self.source, self.target])
        allowed = STANDSTILL_S + self.excused_s + operator_s
        if gap > allowed and runner is not None:
            wrong.append(f"it stood still for {gap:.1f} s, {allowed:.1f} s are allowed")
        if wrong:
            raise Wrong("; ".join(wrong))

    # -- All of it --

    def begin(self):
        silence = f"{int(SILENCE_S * 1000)}ms"
        tls = ("--tls", self.keys.directory) if self.keys else ()
        self.target = Target(
            self.host, "--silence", silence, "--dirty-tracking", self.tracking, *tls, name=self.target_name
        )  # fmt: skip
        self.source = Source(
            self.host, "--disk", f"path={self.image}", "--dirty-tracking", self.tracking, cmdline=LOAD,
            name=self.source_name, memory="32M",
        )  # fmt: skip
        self.judge = DiskJudge(self.image, may_lack=self.fault.fault == "disk full")
        self.relay = Relay(self.target.uri, self.choose_trigger(), self.act, self.random.random(), self.keys)
        self.wait(lambda: "token: 1" in self.source.text(), 20, "the guest does not start")

    def run(self):
        self.tracking = self.random.choice(("ring", "bitmap"))
        self.begin()
        self.channels = 2 if self.fault.fault == "reorder" else self.random.choice((1, 1, 2, 3))
        with self.source.qmp() as qmp:
            compare = {"x_tern_verify_ram": self.random.random() < 0.3}
            qmp.command("migrate-set-parameters", multifd_channels=self.channels, **PARAMETERS, **compare)
            try:
                qmp.command("migrate", uri=self.relay.uri, **({"x_tern_tls": self.keys.directory} if self.keys else {}))
            except EOFError:
                self.wait(lambda: self.killed, 1, "the source's VMM ended without an answer")
            self.movers = {SOURCE: self.source.mover(), TARGET: self.target.mover()}
        source, target = self.settle()
        begin = time.monotonic()
        runner = self.operate(source, target)
        self.outcome = {self.source: "stayed", self.target: "moved", None: "died"}[runner]
        if "doubt" in (source, target):
            self.outcome += " by operator"
        self.notes.append(f"settled: source {source}, target {target}")
        if runner:
            self.check_runner(runner)
        operator_s = OPERATOR_S + time.monotonic() - begin + 2.0 if "doubt" in (source, target) else 0
        self.judge_all(runner, operator_s)
        return self.outcome

    def close(self):
        for timer in self.timers:
            timer.cancel()
        for pid in list(self.stopped):
            send_signal(pid, signal.SIGCONT)
        if self.judge:
            self.judge.ended.set()
        if self.relay:
            self.relay.close()
        for process in (self.source, self.target):
            if process:
                mover = process.mover()
                process.close()
                if mover:
                    send_signal(mover, signal.SIGKILL)
        os.unlink(self.image)

    def story(self):
        rows = [row.story() for row in (self.source, self.target) if row]
        seen = self.relay.seen if self.relay else {}
        trigger = self.relay.trigger if self.relay else None
        return "\n".join([*rows, *self.notes, f"killed {self.killed}", f"seen {dict(seen)}", f"{trigger}"])


def try_fault(host, fault, number):
    begin = time.monotonic()
    trial = Trial(host, fault, number)
    outcome, problems, story = "?", [], ""
    try:
        outcome = trial.run()
    except Wrong as wrong:
        problems.append(str(wrong))
    except Exception:  # noqa: BLE001  (whatever it is, it is this fault's)
        problems.append(traceback.format_exc(limit=4))
    if problems or os.environ.get("TERN_FAULTS_STORIES"):
        story = trial.story()
    problems += trial.problems
    trial.close()
    if fault.fault == "bit flip" and trial.relay:
        trial.injected = trial.relay.flipped
    return Result(fault, trial.injected, outcome, problems, story, time.monotonic() - begin)


# ---- Many ----

_worker = {}


def start_worker(directory, tern, guest, user):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    own = tempfile.mkdtemp(prefix="w", dir=directory)
    _worker["host"] = Host(own, tern, guest, user)
    _worker["host"].keys = tls_ends.Keys(os.path.join(directory, "keys"))
    _worker["number"] = 0


def work(fault):
    """Once more with the next seed when the fault's moment never came; at the very end it is a short one."""
    for attempt in range(12 if fault.stage == "done" else 4):
        _worker["number"] += 1
        result = try_fault(_worker["host"], fault._replace(seed=f"{fault.seed}{'+' * attempt}"), _worker["number"])
        if result.injected or result.problems:
            break
    return result


def plan(seed, count):
    """Every cell of the table in turn, in an order of the seed's; each turn has others of them over TLS."""
    cells = list(enumerate(CELLS))
    chooser = random.Random(seed)
    faults, turn = [], 0
    while len(faults) < count:
        chooser.shuffle(cells)
        faults += [
            Fault(f"{seed}.{len(faults) + n}", *cell, "clear" if (place + turn) % TLS_EVERY else "tls")
            for n, (place, cell) in enumerate(cells)
        ]
        turn += 1
    return faults[:count]


def rows_of(counts):
    lines = ["stage      " + "".join(f"{fault:>13}" for fault in FAULTS)]
    for stage in STAGES:
        cells = ("/".join(str(counts[stage, fault, side]) for side in SIDES) for fault in FAULTS)
        lines.append(f"{stage:<11}" + "".join(f"{cell:>13}" for cell in cells))
    return lines


def table(results):
    """Its text, and the cells in which nothing happened: none of all, nor of those that were to come over TLS."""
    happened = [(r.fault[1:4], r.fault.over) for r in results if r.injected]
    counts = collections.Counter(cell for cell, _ in happened)
    secret = collections.Counter(cell for cell, over in happened if over == "tls")
    lines = ["source/target, in all", *rows_of(counts), "of these over TLS", *rows_of(secret)]
    outcomes = collections.Counter(r.outcome for r in results if r.injected)
    lines.append("outcomes: " + ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())))
    planned = {r.fault[1:4] for r in results if r.fault.over == "tls"}
    zero = [cell for cell in CELLS if not counts[cell]]
    zero += [(*cell, "tls") for cell in CELLS if cell in planned and not secret[cell]]
    return "\n".join(lines), zero


def run_all(faults, tern, guest, user, jobs, say=print):
    """Returns the results. One line for each that went wrong."""
    directory = tempfile.mkdtemp(prefix="tern-faults.")
    os.chmod(directory, 0o755)
    tls_keys.make(os.path.join(directory, "keys"))
    results = []
    try:
        with multiprocessing.Pool(jobs, start_worker, (directory, tern, guest, user)) as pool:
            for result in pool.imap_unordered(work, faults):
                results.append(result)
                if result.problems:
                    say(f"FAILED --only '{':'.join(result.fault)}': {'; '.join(result.problems)}")
                    say(result.story)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return results


def main():
    parser = argparse.ArgumentParser(description="migrations that go wrong on purpose")
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--count", type=int, default=len(CELLS))
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="SEED:STAGE:FAULT:SIDE[:tls]", default=[])
    arguments = parser.parse_args()
    import conftest

    faults = [Fault(*row.split(":")) for row in arguments.only] or plan(arguments.seed, arguments.count)
    build = conftest.BUILD
    print(f"seed {arguments.seed}, {len(faults)} faults", flush=True)
    begin = time.monotonic()
    results = run_all(
        faults, os.path.join(build, "tern"), os.path.join(build, "guest", "guest.elf"), conftest.unprivileged_user(),
        arguments.jobs, say=lambda text: print(text, flush=True),
    )  # fmt: skip
    text, zero = table(results)
    print(text)
    bad = [row for row in results if row.problems]
    print(f"{len(results)} faults, {len(bad)} not survived as they should be, {time.monotonic() - begin:.0f} s")
    if arguments.only:
        for row in results:
            print(row.fault, row.injected, row.outcome, f"{row.seconds:.1f} s")
            if not row.problems:
                print(row.story)
        return bool(bad)
    for cell in zero:
        print("never happened:", *cell)
    return bool(bad or zero)


if __name__ == "__main__":
    sys.exit(main())
