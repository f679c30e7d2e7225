# SPDX-License-Identifier: GPL-2.0-or-later
"""
The sandbox as an attacker inside a thread would find it: system calls are put into the running program's threads from
outside, one class of thread at a time.
"""

import errno
import os
import time

import pytest

import guestline
import inject

# x86-64's numbers
GETPID, SOCKET, EXECVE, OPENAT, PTRACE, CLONE, CONNECT, MOUNT, KILL, BPF, USERFAULTFD = (
    39, 41, 59, 257, 101, 56, 42, 165, 62, 321, 323,
)  # fmt: skip
FORBIDDEN = {
    "socket": (SOCKET, 2, 1, 0),
    "connect": (CONNECT, 0, 0, 0),
    "execve": (EXECVE, 0, 0, 0),
    "openat": (OPENAT, 2**64 - 100, 0, 0),
    "ptrace": (PTRACE, 0, 0, 0),
    "mount": (MOUNT, 0, 0, 0),
    "bpf": (BPF, 0, 0, 0),
}


@pytest.fixture(autouse=True)
def _may_trace():
    if os.geteuid() != 0:
        pytest.skip("only root may trace a process that cannot be dumped")


def threads(vm):
    """{name: thread} of the VMM's process; vCPUs by their number, the rest as the kernel names them."""
    with vm.qmp() as qmp:
        found = {f"vcpu{cpu['cpu-index']}": cpu["thread-id"] for cpu in qmp.command("query-cpus-fast")}
    for task in os.listdir(f"/proc/{vm.process.pid}/task"):
        if int(task) in found.values():
            continue
        if int(task) == vm.process.pid:
            found["main"] = int(task)
        else:
            with open(f"/proc/{vm.process.pid}/task/{task}/comm", encoding="ascii") as comm:
                name = comm.read().strip()
            # The kernel's own helpers (KVM's page recovery, io_uring's workers) never see user space.
            if not name.startswith(("kvm-", "iou-")):
                found[name] = int(task)
    return found


def start(run, host, *options):
    image = host.image("disk0.img", 1 << 20)
    vm = run("--cpus", "2", "--disk", f"path={image}", "--rng", *options, cmdline="mode=dirty wset=8M seconds=0 report=100ms")
    vm.expect("guest: report")
    return vm


def test_every_thread_is_closed_in(run, host):
    vm = start(run, host)
    for name, tid in threads(vm).items():
        with open(f"/proc/{vm.process.pid}/task/{tid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        assert fields["Seccomp"].strip() == "2", f"thread {name} has no filter"
        assert fields["NoNewPrivs"].strip() == "1"
        assert int(fields["CapEff"], 16) == 0


def test_an_allowed_call_is_made(run, host):
    # The same way in, and nothing dies of it: what kills below is the filter, not the test.
    vm = start(run, host, "--sandbox", "off")
    for tid in threads(vm).values():
        assert inject.system_call(vm.process.pid, tid, GETPID) == vm.process.pid
        # No such type of socket: a descriptor might be the call's own number, which is what being killed looks like.
        assert inject.system_call(vm.process.pid, tid, SOCKET, 2, 99, 0) == -errno.EINVAL
    vm.type("q")
    assert vm.wait() == 0, vm.story()
    assert guestline.last(vm.lines, "done")["errors"] == 0


@pytest.mark.parametrize("call", FORBIDDEN)
@pytest.mark.parametrize("thread", ["main", "vcpu1"])
def test_a_forbidden_call_kills(run, host, call, thread):
    vm = start(run, host)
    outcome = inject.system_call(vm.process.pid, threads(vm)[thread], *FORBIDDEN[call])
    assert outcome == "SIGSYS", f"{thread} may call {call}: {outcome}"
    vm.process.poll()


def test_a_forbidden_call_kills_in_all_threads(run, host):
    names = None
    done = set()
    while names is None or done != names:
        vm = start(run, host)
        found = threads(vm)
        names = set(found)
        name = sorted(names - done)[0]
        outcome = inject.system_call(vm.process.pid, found[name], *FORBIDDEN["socket"])
        assert outcome == "SIGSYS", f"{name} may make sockets: {outcome}"
        done.add(name)
        vm.close()
        assert len(done) < 12, done


def test_what_a_killed_vmm_leaves_is_tidied(run, host):
    vm = start(run, host)
    assert host.leftovers() != []
    inject.system_call(vm.process.pid, threads(vm)["main"], *FORBIDDEN["execve"])
    vm.process.wait(5)
    end = time.monotonic() + 5
    while host.leftovers() and time.monotonic() < end:
        time.sleep(0.02)
    assert host.leftovers() == []
