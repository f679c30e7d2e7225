#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Live migration at native speed, between two processes on one host over loopback TCP, Tern against QEMU, the same
bare-metal guest in both, alternating in one run; and beside each the machine's own limit, raw TCP streams of as many
bytes while the same guest works.

What counts as downtime is the longest time that the guest itself found between two iterations of its own loop.

Like is compared with like: guest RAM of both, and the memory of the raw streams, comes in 4 KiB pages or in huge ones
(--pages). For that the host's settings are changed, if they are not what they must be (root may), and put back at the end.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

import goals
from migration_case import Case, run_case
from huge_pages import setting  # in tests/live, where migration_case found the guest's lines
from migration_pair import QemuPair, TernPair
from sample import Sample, machine, table
from warm_memory import WarmMemory

RATES = {"0": 0, "10k": 10_000, "100k": 100_000, "1M": 1_000_000, "max": "max"}


def size_bytes(text):
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]


@contextlib.contextmanager
def pages(kind):
    """While it lasts, memory comes in pages of that kind: QEMU's, which is anonymous, and Tern's, which is shared."""
    huge = kind == "huge"
    with contextlib.ExitStack() as settings:
        try:
            settings.enter_context(setting("enabled", "madvise" if huge else "never"))
            settings.enter_context(setting("shmem_enabled", "advise" if huge else "never"))
        except PermissionError as error:
            sys.exit(f"migration.py: --pages {kind} changes {error.filename}, which only root may do")
        yield


def raw_stream(pair_class, settings, case, nbytes, program, warm):
    """Seconds that raw streams of as many bytes take while the case's guest runs, and the longest gap that it feels meanwhile."""
    with pair_class(settings, case) as pair:
        pair.start_source()
        time.sleep(0.2)
        warm.give_back()
        pair.source_type("g")
        time.sleep(0.1)
        argv = [program, str(nbytes), str(case.channels), str(size_bytes(case.wset))]
        out = subprocess.run(argv, capture_output=True, text=True, check=True)
        return float(out.stdout.split()[0]), pair.finish(pair.source)["gap_us"]


def measure(case, contenders, args):
    seen = {label: [] for label, _, _ in contenders}
    warm = WarmMemory(3 * size_bytes(case.wset) + (512 << 20))  # raw streams take the most: the working set twice
    for number in range(args.runs):
        for label, pair_class, settings in contenders if number % 2 else contenders[::-1]:
            with pair_class(settings, case) as pair:
                result = run_case(pair, warm)
            warm.take()
            if result["bytes"] and not result["failed"] and args.raw_stream:
                raw = raw_stream(pair_class, settings, case, result["bytes"], args.raw_stream, warm)
                warm.take()
                result["raw_s"], result["raw_gap_us"] = raw
            seen[label].append(result)
            print(f"  {case} {label} {result}", file=sys.stderr)
    warm.close()
    return seen


def row(case, label, results):
    good = [r for r in results if not r["failed"]]
    if not good:
        return [str(case), label, f"failed: {results[0]['failed']}"] + [""] * 8

    def text(key, scale=1.0, digits=1, of=good):
        return Sample([r[key] * scale for r in of]).text(digits)

    beside = [r for r in good if "raw_s" in r]
    raw = [r["raw_s"] / r["total_s"] for r in beside]
    return [
        str(case), label, f"{len(good)}/{len(results)}", text("total_s", 1000, 0), text("bytes", 2**-20, 0),
        text("bytes_per_s", 1e-6, 0), f"{Sample(raw).median:.2f}" if raw else "", text("gap_us", 1e-3, 1),
        text("raw_gap_us", 1e-3, 1, beside) if beside else "", text("dirty_rate", 1e-3, 0), text("bytes_per_cpu_s", 1e-6, 0),
    ]  # fmt: skip


HEADER = [
    "guest", "VMM", "completed", "total ms", "MiB sent", "MB/s", "of raw TCP", "longest gap ms", "gap beside raw TCP ms",
    "k pages/s before", "MB per CPU-s",
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tern", default="build/tern")
    parser.add_argument("--guest", default="build/guest/guest.elf")
    parser.add_argument("--raw-stream", default="build/bench/raw-stream", help="empty: leave it out")
    parser.add_argument("--only", choices=("tern", "qemu"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rates", default="0,10k,100k,1M,max")
    parser.add_argument("--wsets", default="64M,1G")
    parser.add_argument("--channels", default="1,2")
    parser.add_argument("--tracking", default="bitmap,ring")
    parser.add_argument("--max-downtime", type=int, default=300, metavar="MS")
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--pages", choices=("4k", "huge"), default="4k", help="of guest RAM, at both sides")
    parser.add_argument("--limit", type=int, default=30, help="seconds after which a migration is cancelled")
    parser.add_argument("--json", help="write all single values there")
    args = parser.parse_args()

    all_seen = []
    rows = []
    with tempfile.TemporaryDirectory(prefix="tern-bench.") as run_dir, pages(args.pages):
        contenders = []
        if args.only != "qemu":
            contenders.append(("Tern", TernPair, TernPair.settings(args.tern, args.guest, run_dir)))
        if args.only != "tern":
            contenders.append(("QEMU", QemuPair, QemuPair.settings(args.guest, run_dir)))
        where = machine()
        for wset in args.wsets.split(","):
            for rate in args.rates.split(","):
                for tracking in args.tracking.split(","):
                    for channels in args.channels.split(","):
                        case = Case(
                            wset, RATES.get(rate, rate), rate, tracking, int(channels), args.max_downtime,
                            args.memory, args.limit,
                        )  # fmt: skip
                        seen = measure(case, contenders, args)
                        all_seen.append((str(case), seen))
                        rows += [row(case, label, seen[label]) for label, _, _ in contenders]
        versions = ", ".join(settings["version"] for _, _, settings in contenders)
    print(
        f"{where}; {versions}; {args.runs} runs each, alternating; {args.memory} guest, 1 vCPU, maximum downtime "
        f"{args.max_downtime} ms\n"
    )
    print(table(HEADER, rows))
    if not args.only:
        print("\nThe goals (bold: missed; above: the guest dirties memory faster than the goals are for):\n")
        print(table(goals.HEADER, goals.goals(all_seen)))
    kinds = {label: sorted({r["page_kind"] for _, s in all_seen for r in s.get(label, [])}) for label, _, _ in contenders}
    print("\nPages behind guest RAM: " + "; ".join(f"{label}: {', '.join(found)}" for label, found in kinds.items()))
    if args.json:
        os.makedirs(os.path.dirname(os.path.abspath(args.json)), exist_ok=True)
        with open(args.json, "w", encoding="ascii") as out:
            json.dump({"where": where, "versions": versions, "values": all_seen}, out)


if __name__ == "__main__":
    main()
