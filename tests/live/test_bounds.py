# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be done is refused in one clear line, with exit status 2, and leaves nothing behind."""

import os
import re

import pytest

INPUT = 2


def refused(vm, host, *words):
    assert vm.wait(10) == INPUT, vm.story()
    assert vm.lines == [], vm.story()
    assert len(vm.log) == 1, vm.story()
    for word in words:
        assert re.search(word, vm.log[0]), f"{word!r} is not in: {vm.log[0]}"
    assert host.leftovers() == []


@pytest.mark.parametrize(
    "options,words",
    [
        (("--memory", "8E"), ("memory",)),
        (("--memory", "600G"), ("memory",)),
        (("--memory", "1M"), ("memory",)),
        (("--memory", "lots"), ("memory", "lots")),
        (("--cpus", "65"), ("cpus", "65|64")),
        (("--cpus", "0"), ("cpus",)),
        (("--cpus", "many"), ("cpus", "many")),
        (("--disk", "path=/nonexistent/image"), ("/nonexistent/image", "No such file")),
        (("--disk", "readonly=on"), ("disk", "path")),
        (("--net", "tap=nosuchtap0"), ("nosuchtap0",)),
        (("--net", "carrier-pigeon"), ("net", "carrier-pigeon")),
        (("--cpu", "z80"), ("cpu", "z80")),
        (("--dirty-tracking", "ring=3"), ("ring", "3")),
        (("--dirty-tracking", "guess"), ("dirty-tracking", "guess")),
        (("--sandbox", "maybe"), ("sandbox", "maybe")),
        (("--serial", "file=/nonexistent/serial"), ("/nonexistent/serial",)),
        (("--no-such-option",), ("no-such-option",)),
        (("--config", "/nonexistent/config"), ("/nonexistent/config",)),
        (("--initrd", "/nonexistent/initrd"), ("/nonexistent/initrd",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_options(run, host, options, words):
    refused(run(*options), host, *words)


def test_missing_kernel(run, host):
    refused(run(kernel="/nonexistent/kernel"), host, "/nonexistent/kernel", "No such file")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 120, 4096, 20000])
def test_truncated_kernel(run, host, size):
    short = os.path.join(host.directory, f"short{size}")
    with open(host.guest, "rb") as whole, open(short, "wb") as out:
        out.write(whole.read(size))
    refused(run(kernel=short), host, re.escape(short))


def test_kernel_of_noise(run, host):
    noise = os.path.join(host.directory, "noise")
    with open(noise, "wb") as out:
        out.write(os.urandom(65536))
    refused(run(kernel=noise), host, re.escape(noise))


def test_name_in_use(run, host):
    first = run(cmdline="mode=idle seconds=0", name="twin")
    first.expect("guest: boot")
    before = host.leftovers()
    second = run(cmdline="mode=hello", name="twin")
    assert second.wait(10) == INPUT, second.story()
    assert len(second.log) == 1 and "twin" in second.log[0], second.story()
    assert host.leftovers() == before
    with first.qmp() as qmp:
        assert qmp.command("query-status")["running"]


@pytest.mark.parametrize("bad", ["", "..", "a/b", "x" * 64, "sp ace"])
def test_bad_name(run, host, bad):
    refused(run(name=bad), host, "name")


def test_image_in_use(run, host):
    image = host.image("shared.img", 1 << 20)
    first = run("--disk", f"path={image}", cmdline="mode=idle seconds=0", name="one")
    first.expect("guest: boot")
    before = host.leftovers()
    second = run("--disk", f"path={image}", cmdline="mode=hello", name="two")
    assert second.wait(10) == INPUT, second.story()
    assert len(second.log) == 1 and image in second.log[0], second.story()
    assert host.leftovers() == before
    # Two readers may share; a reader beside a writer may not.
    reader = run("--disk", f"path={image},readonly=on", cmdline="mode=hello", name="three")
    assert reader.wait(10) == INPUT, reader.story()


def test_two_readers_share_an_image(run, host):
    image = host.image("shared.img", 1 << 20)
    first = run("--disk", f"path={image},readonly=on", cmdline="mode=idle seconds=0", name="one")
    first.expect("guest: boot")
    second = run("--disk", f"path={image},readonly=on", cmdline="mode=hello", name="two")
    assert second.wait() == 0, second.story()
