#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Footprint of one VM, Tern against QEMU's microvm, the same guest in both, alternating in one run: time from exec to the
guest's first serial byte, memory beyond guest RAM, size of the stripped program.

Memory beyond guest RAM is what all the VMM's processes map (Rss; Pss, which splits shared libraries among their users)
less the mapping of the guest's own RAM, while the guest runs idle.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from contender import Qemu, Tern
from sample import Sample, machine, table

MEMORY_MIB = 256


def first_byte_us(contender, program):
    """exec to the first byte of serial output, and to the VMM's exit."""
    run = subprocess.run(
        [program, "--root", contender.root, "--", *contender.command(f"{MEMORY_MIB}M", "mode=hello")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if run.returncode or "guest: boot" not in run.stderr:
        sys.exit(f"footprint: {contender.label}: the guest did not start:\n{run.stdout}{run.stderr}")
    first, _line, whole = (float(word) for word in run.stdout.split())
    return first, whole


def children(pid):
    """A process and all that it started."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as kids:
            for kid in kids.read().split():
                found += children(int(kid))
    return found


def beyond_ram_kib(pid):
    """(Rss, Pss) of a process without mappings of the guest's RAM."""
    rss = pss = 0
    is_ram = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) .*", line)
            if head:
                size = int(head.group(2), 16) - int(head.group(1), 16)
                is_ram = size >= MEMORY_MIB << 20
            elif not is_ram and line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif not is_ram and line.startswith("Pss:"):
                pss += int(line.split()[1])
    return rss, pss


def memory_kib(contender):
    argv = contender.chroot() + contender.command(f"{MEMORY_MIB}M", "mode=idle seconds=20")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as vmm:
        try:
            for line in vmm.stdout:
                if b"guest: boot" in line:
                    break
            else:
                sys.exit(f"footprint: {contender.label}: the guest did not start")
            time.sleep(0.2)
            each = [beyond_ram_kib(pid) for pid in children(vmm.pid)]
            return sum(rss for rss, _ in each), sum(pss for _, pss in each)
        finally:
            vmm.send_signal(signal.SIGKILL)


def measure(contenders, runs, program):
    """{label: {quantity: [values]}}, contenders taking turns."""
    seen = {c.label: {"first_byte_ms": [], "whole_ms": [], "rss_mib": [], "pss_mib": []} for c in contenders}
    for number in range(runs):
        for contender in contenders if number % 2 else contenders[::-1]:
            values = seen[contender.label]
            first, whole = first_byte_us(contender, program)
            values["first_byte_ms"].append(first / 1000)
            values["whole_ms"].append(whole / 1000)
            rss, pss = memory_kib(contender)
            values["rss_mib"].append(rss / 1024)
            values["pss_mib"].append(pss / 1024)
    return seen


def report(contenders, seen):
    names = (
        ("exec to first serial byte, ms", "first_byte_ms"),
        ("exec to exit of a guest that powers off at once, ms", "whole_ms"),
        ("memory beyond guest RAM, Rss, MiB", "rss_mib"),
        ("memory beyond guest RAM, Pss, MiB", "pss_mib"),
    )
    rows = []
    for title, key in names:
        samples = [Sample(seen[c.label][key]) for c in contenders]
        ratio = f"{samples[0].median / samples[-1].median:.3f}" if len(samples) > 1 else ""
        rows.append([title, *(s.text() for s in samples), ratio])
    sizes = [c.stripped_bytes() / 2**20 for c in contenders]
    ratio = f"{sizes[0] / sizes[-1]:.3f}" if len(sizes) > 1 else ""
    rows.append(["stripped program, MiB", *(f"{size:.2f}" for size in sizes), ratio])
    return table(["quantity", *(c.version for c in contenders), "ratio"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tern", default="build/tern")
    parser.add_argument("--guest", default="build/guest/guest.elf")
    parser.add_argument("--first-byte", default="build/bench/first-byte")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--only", choices=("tern", "qemu"))
    parser.add_argument("--json", help="write all single values there")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="tern-bench.") as run_dir:
        contenders = []
        if args.only != "qemu":
            contenders.append(Tern(args.tern, args.guest, run_dir))
        if args.only != "tern":
            contenders.append(Qemu(args.guest, run_dir))
        where = machine()
        measure(contenders, 1, args.first_byte)  # warms the page cache for all alike
        seen = measure(contenders, args.runs, args.first_byte)
        print(f"{where}; {args.runs} runs each, alternating; {MEMORY_MIB} MiB guest, 1 vCPU\n")
        print(report(contenders, seen))
        if args.json:
            with open(args.json, "w", encoding="ascii") as out:
                json.dump({"where": where, "values": seen}, out)


if __name__ == "__main__":
    main()
