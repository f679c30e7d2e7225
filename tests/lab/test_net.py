# SPDX-License-Identifier: GPL-2.0-or-later
"""virtio-net under Linux: through a tap, with and without vhost-net, and through passt."""

import itertools

import pytest

CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF, MQ = 0, 1, 7, 11, 15, 22
_numbers = itertools.count(1)


@pytest.fixture
def tap(lab):
    """A function that makes a tap of the unprivileged user's: (its name, the host's address, the guest's)."""
    made = []

    def make(multi=False):
        number = next(_numbers)
        name = f"tap{number}"
        lab.run(f"mktap {name} 1000 {'multi' if multi else ''} && ip addr add 10.1.{number}.1/24 dev {name} && "
                f"ip link set {name} up", check=True)
        made.append(name)
        return name, f"10.1.{number}.1", f"10.1.{number}.2"
    yield make
    for name in made:
        lab.run(f"ip link del {name}")


def features(guest) -> set[int]:
    """The features that the guest's network card has agreed on with its device."""
    bits = guest.sh("cat /sys/class/net/eth0/device/features").strip()
    return {number for number, bit in enumerate(bits) if bit == "1"}


def transfer(lab, guest, host_ip, mib=2):
    """That many MiB in each direction by TCP, compared; the guest is the client both times."""
    lab.run(f"head -c {mib << 20} /dev/urandom >/tmp/numbers", check=True)
    want = lab.run("md5sum </tmp/numbers").stdout.split()[0]
    sink = lab.popen("nc -l -p 7001 | md5sum")
    sent = guest.sh(f"head -c {mib << 20} /dev/urandom >/tmp/up; until nc {host_ip} 7001 </tmp/up; do sleep 0.2; done; "
                    "md5sum </tmp/up", timeout=120).split()[0]
    assert sink.wait(60).stdout.split()[0] == sent
    # By httpd: a netcat that has nothing to send hangs up on its server.
    lab.run(f"httpd -p {host_ip}:7002 -h /tmp", check=True)
    got = guest.sh(f"wget -q -O - http://{host_ip}:7002/numbers | md5sum", timeout=180)
    assert got.split()[0] == want


@pytest.mark.parametrize("vhost", ["on", "off"])
def test_tap(vm, lab, tap, vhost):
    """Ping, bulk data in both directions, checksum and segmentation offloads agreed on; the MAC that was asked for."""
    name, host_ip, guest_ip = tap()
    guest = vm(cpus=2, net=[f"tap={name},vhost={vhost},mac=52:54:00:77:00:01"], cmdline=f"tern.ip={guest_ip}/24")
    assert guest.status()["nets"][0]["vhost"] is (vhost == "on")
    assert guest.sh("cat /sys/class/net/eth0/address").strip() == "52:54:00:77:00:01"
    assert {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF} <= features(guest)
    assert "0% packet loss" in guest.sh(f"ping -c 3 -s 1400 {host_ip}")
    transfer(lab, guest, host_ip)
    assert "0% packet loss" in lab.run(f"ping -c 3 {guest_ip}").stdout


@pytest.mark.parametrize("vhost", ["on", "off"])
def test_tap_several_queues(vm, lab, tap, vhost):
    """Two queue pairs, both used."""
    name, host_ip, guest_ip = tap(multi=True)
    guest = vm(cpus=2, net=[f"tap={name},queues=2,vhost={vhost}"], cmdline=f"tern.ip={guest_ip}/24")
    assert MQ in features(guest)
    assert guest.sh("ls -d /sys/class/net/eth0/queues/rx-*").split() == \
        [f"/sys/class/net/eth0/queues/rx-{i}" for i in range(2)]
    for cpu in range(2):
        guest.sh(f"taskset {1 << cpu} ping -c 5 -i 0.2 {host_ip}")
    rows = [line.split() for line in guest.sh("grep -E 'virtio[0-9]+-output' /proc/interrupts").splitlines()]
    assert len(rows) == 2
    transfer(lab, guest, host_ip, mib=1)


@pytest.mark.any_cpus
def test_guest_reset_on_a_tap(vm, tap):
    """A guest that reboots finds its network again."""
    name, host_ip, guest_ip = tap()
    guest = vm(net=[f"tap={name}"], cmdline=f"tern.ip={guest_ip}/24")
    assert "0% packet loss" in guest.sh(f"ping -c 1 {host_ip}")
    guest.start("reboot -f")
    guest.wait_up()
    assert "0% packet loss" in guest.sh(f"ping -c 1 {host_ip}")


@pytest.mark.any_cpus
def test_a_tap_in_use(vm, lab, tap):
    """A tap serves one VM: the second is told so."""
    name, _, _ = tap()
    vm(net=[f"tap={name}"])
    second = lab.run(["tern", "run", "--name", "second", "--kernel", "/guest/kernel", "--serial", "off", "--net",
                      f"tap={name}"], user="tern")
    assert second.status == 2 and name in second.stderr and second.stderr.count("\n") == 1, second


@pytest.mark.core
def test_passt(vm, lab):
    """Without any privilege: an address by DHCP, and the host's services at the gateway; no offloads are offered."""
    lab.run("mkdir -p /tmp/www; head -c 1048576 /dev/urandom >/tmp/www/numbers; httpd -p 127.0.0.1:8080 -h /tmp/www",
            check=True)
    want = lab.run("md5sum </tmp/www/numbers").stdout.split()[0]
    guest = vm(cpus=2, net=["passt"], cmdline="tern.ip=dhcp")
    gateway = guest.sh("ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'").strip()
    assert guest.sh(f"wget -q -O - http://{gateway}:8080/numbers | md5sum", timeout=180).split()[0] == want
    assert not {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4} & features(guest)
    net = guest.status()["nets"][0]
    assert net["backend"] == "passt" and "migrate" in net["note"]
    guest.start("guest-poweroff")
    assert guest.wait() == 0
    assert lab.run("sleep 0.5; pidof passt passt.avx2").stdout.strip() == ""
