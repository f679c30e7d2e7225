# SPDX-License-Identifier: GPL-2.0-or-later
"""
Live tests: build/tern on this host's own KVM with the bare-metal guest, as an unprivileged user.

As root, the tests make /dev/kvm accessible to the group kvm, as distributions do, and run tern as nobody with that group
and no capability. As anybody else they run it as they are. Without a usable /dev/kvm or without build/tern they skip
and say why.
"""

import collections
import grp
import os
import shutil
import stat
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from vm import Host, Receiver, Vm  # noqa: E402  (the path comes first)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TERN_BUILD", os.path.join(ROOT, "build"))
NOBODY = 65534

User = collections.namedtuple("User", "uid gid kvm_gid")


def unprivileged_user():
    """The user to run tern as; None: whoever runs the tests."""
    if not os.path.exists("/dev/kvm"):
        pytest.skip("no /dev/kvm on this host")
    if os.geteuid() != 0:
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            pytest.skip("/dev/kvm: not ours to open: join the group kvm, or run as root")
        return None
    device = os.stat("/dev/kvm")
    try:
        kvm_gid = grp.getgrnam("kvm").gr_gid
    except KeyError:
        kvm_gid = device.st_gid or NOBODY
    if device.st_gid != kvm_gid or not device.st_mode & stat.S_IWGRP:
        try:
            os.chown("/dev/kvm", -1, kvm_gid)
            os.chmod("/dev/kvm", 0o660)
        except OSError as error:
            pytest.skip(f"/dev/kvm cannot be given to the group kvm: {error}")
    return User(NOBODY, NOBODY, kvm_gid)


@pytest.fixture(scope="session")
def _host_base():
    tern = os.path.join(BUILD, "tern")
    guest = os.path.join(BUILD, "guest", "guest.elf")
    for path in (tern, guest):
        if not os.path.exists(path):
            pytest.skip(f"{path}: not built")
    user = unprivileged_user()
    directory = tempfile.mkdtemp(prefix="tern-live.")
    yield Host(directory, tern, guest, user)
    shutil.rmtree(directory)


@pytest.fixture
def host(_host_base):
    """The host, with nothing left in the runtime directory from the test before."""
    yield _host_base
    for where, _, names in os.walk(_host_base.run_dir):
        for name in names:
            os.unlink(os.path.join(where, name))


@pytest.fixture
def run(host):
    """run(*options, cmdline=..., name=...) starts a VM that ends with the test."""
    started = []

    def start(*options, **keywords):
        vm = Vm(host, *options, **keywords)
        started.append(vm)
        return vm

    yield start
    for vm in started:
        vm.close()


@pytest.fixture
def receive(host):
    """receive(*options, name=...) starts a target that ends with the test."""
    started = []

    def start(*options, **keywords):
        receiver = Receiver(host, *options, **keywords)
        started.append(receiver)
        return receiver

    yield start
    for receiver in started:
        receiver.close()
