#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tern broken on purpose, one line at a time, in what migration rests on: each must be found by the test that it names. What the
tests do not find when it is broken, they do not test.

usage: mutants.py [--lab] [--only WORD]      builds in a copy of the tree, and tries there with the bare-metal guest on this
host's KVM; --lab: those that need Linux guests or arm64, in the lab
"""

import argparse
import collections
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPIED = ("base", "kvm", "memory", "devices", "vmm", "migration", "cli", "make", "tests", "lab", "build", "Makefile",
          "VERSION")

# says: words that the test prints when it has found this and not something else (a lab of its own troubles).
Mutant = collections.namedtuple("Mutant", "name file old new tests says", defaults=("",))


def pytest(words):
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/live/test_migration.py", "tests/live/test_faults.py",
            "tests/live/test_handover.py", "-k", words]


def saving(words):
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/live/test_snapshot.py", "-k", words]


def lab(file, words, arch):
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/lab/{file}", f"--arch={arch}", "-k", words]


def faults(*rows):
    """Some of each, from several seeds: what they do in detail follows from the seed."""
    only = [word for row in rows for n in range(3) for word in ("--only", f"m{n}:{row}")]
    return ["tests/live/faults.py", *only]


MUTANTS = [
    Mutant(
        "pages are re-armed after they were read", "migration/pages_out.c",
        (
            "		error = arm_until(out, (chunk + 1) * WIRE_CHUNK_PAGES);",
            "	if (!error)\n		error = flush(sender);\n	if (error)\n		return error;\n	end.pages",
        ),
        (
            "		error = 0;",
            "	if (!error)\n		error = flush(sender);\n	if (!error)\n		error = arm_until(out, out->env.npages);\n"
            "	if (error)\n		return error;\n	end.pages",
        ),
        pytest("written_while and bitmap"),
    ),
    Mutant(
        "what devices write is forgotten", "memory/ram.c",
        "		map[i] |= __atomic_exchange_n(&ram->written[i], 0, __ATOMIC_SEQ_CST);",
        "		map[i] |= 0 & __atomic_exchange_n(&ram->written[i], 0, __ATOMIC_SEQ_CST);",
        pytest("what_devices_write"),
    ),
    Mutant(
        "the last harvest is left out", "migration/outgoing.c",
        "		error = harvest(outgoing, true, &done.pages);",
        "		done.pages = 0;",
        pytest("back_and_forth and ring"),
    ),
    Mutant(
        "a ring, with pages set dirty initially", "kvm/vm.c",
        "	if (!error)\n		vm->ring_entries = entries;\n	return error;",
        "	if (!error)\n		vm->ring_entries = entries;\n	args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;\n"
        "	if (!error)\n		error = kvm_vm_enable_cap(vm, VM_STEP_RING, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, args);\n	return error;",
        pytest("back_and_forth and ring"),
    ),
    Mutant(
        "a disk's lock is not taken", "vmm/board.c",
        "int machine_acquire_disks(struct machine *machine)\n{\n	int error = 0;",
        "int machine_acquire_disks(struct machine *machine)\n{\n	int error = 0;\n\n	if (machine)\n		return 0;",
        faults("done:delay:target"),
    ),
    Mutant(
        "a dying VMM's mover has the target drop the VM", "migration/source.c",
        "bool orphan = error == -EPIPE && source->complete;", "bool orphan = false;",
        faults("state:kill VMM:source", "state:kill VMM:source"),
    ),
    Mutant(
        "a target in doubt does not wait", "migration/target.c",
        "	log_warn(\"migration: %s; waiting for it or for the operator\", lost.text);",
        "	if (mover->side)\n		return fail(-ECONNRESET, \"gone\");",
        faults("state:kill VMM:source", "state:stop VMM:source"),
    ),
    Mutant(
        "an answer is made up where there is none", "migration/source.c",
        "	while (!error && !source->answer_type && !mover->resolved)\n		error = ask_again(mover);",
        "	source->answer_type = WIRE_TAKEN;\n	if (!source)\n		error = ask_again(mover);",
        faults("own:cut:source", "own:bit flip:source"),
    ),
    Mutant(
        "a disk is given up although it could not be flushed", "devices/virtio_blk.c",
        "	int error = blk_image_sync(blk->image);\n\n	if (!error)\n		blk_image_unlock",
        "	int error = 0;\n\n	if (!error)\n		blk_image_unlock",
        pytest("cannot_be_flushed"),
    ),
    Mutant(
        "a round runs past a forced deadline", "migration/source.c",
        "	if (!deadline || source->switch_us)", "	if (!deadline || mover->params.force || source->switch_us)",
        pytest("deadline_within and ring"),
    ),
    Mutant(
        "what a round leaves out at the deadline is forgotten", "migration/pages_out.c",
        "		left[word] = out->taken[word] ? 0", "		left[word] = out->taken[word] + 1 ? 0",
        pytest("deadline_within and ring"),
    ),
    Mutant(
        "a damaged page is believed", "migration/pages_in.c",
        "hash_bytes(at + i * RAM_PAGE_BYTES, RAM_PAGE_BYTES) == hash[i]",
        "hash_bytes(at + i * RAM_PAGE_BYTES, RAM_PAGE_BYTES) != 0 + 0 * hash[i]",
        pytest("bit_flips_in_memory"),
    ),
    Mutant(
        "data that does not move is not noticed", "migration/source.c",
        "	return now > source->moved_us + STALL_TIMES", "	return !now && now > source->moved_us + STALL_TIMES",
        pytest("data_goes_nowhere"),
    ),
    Mutant(
        "a save writes all pages once, and no round after that", "migration/saver.c",
        "		error = write_set(saver, map, first, end, &written);",
        "		error = saver->paused_us ? write_set(saver, map, first, end, &written) : 0;",
        saving("many_rounds and ring"),
    ),
    Mutant(
        "a save leaves the last pages out", "migration/saver.c",
        "		error = write_round(saver, saver->live ? saver->mover->map : NULL);",
        "		error = saver->live ? 0 : write_round(saver, NULL);",
        saving("too_fast and bitmap"),
    ),
    Mutant(
        "a save that is broken off forgets the rest of its round", "migration/saver.c",
        "			mover->map[page / 64] = UINT64_MAX;", "			mover->map[page / 64] = 0;",
        saving("deadline_within and ring"),
    ),
    Mutant(
        "a save that failed leaves its file", "migration/saver.c",
        "		if (unlink(mover->path) < 0)", "		if (0)",
        saving("full_disk or too_fast"),
    ),
    Mutant(
        "what a save has damaged is restored", "migration/snapshot_reader.c",
        "		if (damaged < n)", "		if (0)",
        saving("spoilt"),
    ),
    Mutant(
        "a disk that has changed since the save is taken", "vmm/machine_disks.c",
        "	if (!as_they_are)", "	if (0)",
        saving("disks_must"),
    ),
]  # fmt: skip

LAB_MUTANTS = [
    Mutant(
        "arm64: the bitmap beside the ring is not harvested", "memory/dirty.c",
        "	if (dirty->choice.mode == DIRTY_BITMAP || (dirty->choice.ring_bitmap && final))",
        "	if (dirty->choice.mode == DIRTY_BITMAP)",
        lab("test_arm64.py", "no_vcpu_writes", "arm64"), "guest memory differs from the source's",
    ),
    Mutant(
        "arm64: the state is saved after the last harvest", "migration/outgoing.c",
        (
            "	error = save_state(outgoing, &done.state_bytes);",
            "	if (!error && (outgoing->tracking || !outgoing->saving))\n		error = harvest(outgoing, true, &done.pages);",
        ),
        (
            "	error = harvest(outgoing, true, &done.pages);",
            "	if (!error)\n		error = save_state(outgoing, &done.state_bytes);",
        ),
        lab("test_arm64.py", "no_vcpu_writes", "arm64"), "guest memory differs from the source's",
    ),
    Mutant(
        "arm64: the ITS does not save its tables", "vmm/arm64_gic_state.c",
        "	error = its_control(arch, arch->its_fd, KVM_DEV_ARM_ITS_SAVE_TABLES);", "	error = 0;",
        lab("test_arm64.py", "no_vcpu_writes", "arm64"), "not ok lpi: 1023 was pending",
    ),
    Mutant(
        "arm64: pending interrupts are not saved", "vmm/arm64_gic_state.c",
        "	if (!error)\n		error = its_control(arch, arch->gic_fd, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES);\n", "",
        lab("test_arm64.py", "no_vcpu_writes", "arm64"), "not ok lpi: 1023 was pending",
    ),
]  # fmt: skip

Table = collections.namedtuple("Table", "mutants targets")
LIVE = Table(MUTANTS, ["build/tern"])
LAB = Table(LAB_MUTANTS, ["ARCH=arm64", "all", "guest", "ring-alone"])


def run(arguments, directory, seconds):
    return subprocess.run(
        arguments, cwd=directory, env={**os.environ, "TERN_BUILD": os.path.join(directory, "build")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def build(table, directory):
    result = run(["make", *table.targets], directory, 600)
    if result.returncode:
        raise SystemExit(f"a mutant does not build:\n{result.stdout}")


def judge(mutant, directory):
    try:
        result = run([sys.executable, *mutant.tests], directory, 600)
    except subprocess.TimeoutExpired:
        return "not found: its test never ends" if mutant.says else "found (by never ending)"
    if not result.returncode:
        return "not found"
    if mutant.says not in result.stdout:
        return f"not found: its test fails for another reason:\n{result.stdout[-4000:]}\n"
    return "found"


def try_mutant(table, mutant, directory):
    """"found", "not found" and why, or why it could not be tried."""
    path = os.path.join(directory, mutant.file)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    changed = text
    for old, new in zip(*((row,) if isinstance(row, str) else row for row in (mutant.old, mutant.new))):
        if text.count(old) != 1:
            return f"does not fit: {mutant.file} has its text {text.count(old)} times"
        changed = changed.replace(old, new)
    with open(path, "w", encoding="utf-8") as file:
        file.write(changed)
    try:
        build(table, directory)
        return judge(mutant, directory)
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def main():
    parser = argparse.ArgumentParser(description="Tern broken on purpose")
    parser.add_argument("--lab", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    table = LAB if arguments.lab else LIVE
    chosen = [mutant for mutant in table.mutants if arguments.only in mutant.name]
    bad = 0
    directory = tempfile.mkdtemp(prefix="tern-mutants.")
    os.chmod(directory, 0o755)
    try:
        subprocess.run(["cp", "-a", *COPIED, directory], cwd=ROOT, check=True)
        for mutant in chosen:
            outcome = try_mutant(table, mutant, directory)
            bad += not outcome.startswith("found")
            print(f"{outcome:<10} {mutant.name}", flush=True)
        build(table, directory)
        for tests in {tuple(mutant.tests) for mutant in chosen}:
            result = run([sys.executable, *tests], directory, 600)
            if result.returncode:
                bad += 1
                print(f"fails unbroken, too: {' '.join(tests)}\n{result.stdout[-4000:]}", flush=True)
    finally:
        shutil.rmtree(directory)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
