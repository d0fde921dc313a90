"""Machines and pools of machines: what a valid file becomes, and exactly the lines an operator reads of a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.core.desired import Amount, Bmc, Desired, Machine
from fleet.settings import SettingsInvalid, load, override

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMOlqwZllFOfg32DSm2Vad3wyMnwiJIB8S4uT7+oWkeY"
ECDSA = ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCz2DrQ5P3dN9X6DBJb1T+i0LQ4I1O+7fTmpd581bp1"
         "bmLus/F3UrlqjoKBPwmnGOG1pCGGRgSPhR5m+3XwwEns=")
GOOD = f"""\
[fleet]
name = "metal"
[images.web]
path = "images/web"
mirror = "http://10.0.0.1:8080/web/"

[machines.gate]
address = "gate.example.org"
host_ca = "{ECDSA} ca@desk"

[machines.rack1]
address = "10.0.0.11"
port = 2222
user = "anew"
jump = "gate"
key = "keys/rack1"
host_key = "{PIN} root@rack1"
disk = "WD-WCC4N7"
console = "/var/log/console/rack1"
bmc = {{ url = "https://10.0.1.11/redfish/v1/Systems/1", user = "anew", password_file = "rack1.password", ca = "bmc.pem" }}

[machines.rack2]
address = "fd00::12"
agent = true

[pools.web]
driver = "baremetal"
machines = ["rack1", "rack2"]
image = "web"
mode = "manual"

[[pools.web.health]]
http = {{ port = 80, path = "/healthz" }}

[pools.web.rollout]
promotion = "auto"

[pools.app]
driver = "sim"
servers = 3
image = "app"
[images.app]
simulated = ["1", "2"]
"""


def read(tmp_path: Path, text: str) -> Desired:
    """The fleet of a file with this text."""
    (tmp_path / "fleet.toml").write_text(text)
    return load(str(tmp_path / "fleet.toml"))


def lines_of(tmp_path: Path, text: str) -> list[str]:
    """What the operator reads about a file with this text."""
    with pytest.raises(SettingsInvalid) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(str(tmp_path / "fleet.toml"), "FILE").split("\n")


def test_machines_arrive_whole_with_paths_beside_the_file(tmp_path: Path) -> None:
    desired = read(tmp_path, GOOD)
    assert desired.machines == {
        "gate": Machine("gate", "gate.example.org", host_ca=ECDSA),
        "rack1": Machine(
            "rack1", "10.0.0.11", 2222, "anew", "gate", str(tmp_path / "keys/rack1"), False, PIN, "", "WD-WCC4N7",
            "/var/log/console/rack1", Bmc("https://10.0.1.11/redfish/v1/Systems/1", "anew", str(tmp_path / "rack1.password"),
                                          str(tmp_path / "bmc.pem"))),
        "rack2": Machine("rack2", "fd00::12", agent=True),
    }
    assert desired.images["web"].mirror == "http://10.0.0.1:8080/web"


def test_a_pool_of_machines_counts_them_and_has_the_times_of_metal(tmp_path: Path) -> None:
    pool = read(tmp_path, GOOD).pools["web"]
    assert (pool.servers, pool.server_names, pool.places) == (2, ("rack1", "rack2"), ("rack1", "rack2"))
    rollout = pool.rollout
    assert (rollout.healthy_deadline, rollout.progress_deadline, rollout.retain) == (900.0, 2400.0, 365 * 86_400.0)
    assert (rollout.max_surge, rollout.max_unavailable, rollout.min_healthy_time) == (Amount(0), Amount(1), 10.0)
    written = read(tmp_path, GOOD.replace('promotion = "auto"', 'healthy_deadline = "5m"\nprogress_deadline = "10m"\nretain = "1d"'))
    assert written.pools["web"].rollout.healthy_deadline == 300.0
    assert written.pools["web"].rollout.progress_deadline == 600.0 and written.pools["web"].rollout.retain == 86_400.0
    assert written.pools["app"].rollout.healthy_deadline == 300.0
    assert read(tmp_path, GOOD.replace('image = "web"\nmode', 'servers = 2\nimage = "web"\nmode')).pools["web"].servers == 2


def test_a_plan_may_not_create_first_on_metal_either(tmp_path: Path) -> None:
    pool = read(tmp_path, GOOD).pools["web"]
    with pytest.raises(SettingsInvalid, match="max_surge: found 1, allowed 0 on bare metal: the two slots"):
        override(pool, {"max-surge": "1"})
    with pytest.raises(SettingsInvalid, match="canaries: found 3, allowed at most 2"):
        override(pool, {"canaries": "3"})
    assert override(pool, {"max-unavailable": "2"}).rollout.max_unavailable == Amount(2)


def test_fleets_of_thousands_of_machines_load(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(3000)]
    tables = "".join(f'[machines.{name}]\naddress = "{name}.example.org"\n' for name in names)
    text = GOOD.replace('"rack1", "rack2"', ", ".join(f'"{name}"' for name in names)) + tables
    assert read(tmp_path, text).pools["web"].servers == 3000


CASES: list[tuple[str, str, str, str]] = [
    # name, what is replaced in GOOD, by what, the one line that the operator reads
    ("unknown machine", '"rack2"]', '"rak2"]',
     'FILE:28: pools.web.machines[1]: found "rak2", allowed a machine of this file (gate, rack1, rack2). Did you mean "rack2"?'),
    ("machine that nothing resembles", '"rack2"]', '"zz9"]',
     ('FILE:28: pools.web.machines[1]: found "zz9", allowed a machine of this file (gate, rack1, rack2). '
     "Describe it in [machines.zz9]")),
    ("machine twice", '"rack2"]', '"rack1"]', 'FILE:28: pools.web.machines[1]: found "rack1" twice, allowed each machine once'),
    ("no machines", 'machines = ["rack1", "rack2"]\n', "",
     'FILE:26: pools.web.machines: found none, allowed at least one for driver = "baremetal", such as ["rack1"]'),
    ("another number", 'image = "web"\nmode', 'servers = 3\nimage = "web"\nmode',
     "FILE:29: pools.web.servers: found 3, allowed 2, the number of its machines. It may be left out"),
    ("not even a number", 'image = "web"\nmode', 'servers = 0\nimage = "web"\nmode',
     "FILE:29: pools.web.servers: found 0, allowed an integer from 1 to 10000"),
    ("servers missing elsewhere", "servers = 3\n", "", "FILE:38: pools.app.servers: found nothing, allowed an integer from 1 to 10000"),
    ("machines elsewhere", "servers = 3", 'servers = 3\nmachines = ["gate"]',
     'FILE:41: pools.app.machines: found machines, allowed none for driver = "sim". They are for driver = "baremetal"'),
    ("misspelt driver", '"baremetal"', '"bare-metal"',
     'FILE:27: pools.web.driver: found "bare-metal", allowed "libvirt", "baremetal" or "sim". Did you mean "baremetal"?'),
    ("jump to nowhere", 'jump = "gate"', 'jump = "gat"',
     'FILE:15: machines.rack1.jump: found "gat", allowed a machine of this file. Did you mean "gate"?'),
    ("jump to itself", 'jump = "gate"', 'jump = "rack1"',
     ("FILE:15: machines.rack1.jump: found rack1 through rack1, allowed a way that does not come back to where it began")),
    ("cut host key", f'{PIN} root@rack1"', f'{PIN[:-8]}"',
     ("FILE:17: machines.rack1.host_key: found \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMOlqwZllFOfg32DSm2Va...\", allowed a host's "
     'public key such as "ssh-ed25519 AAAA…", the line of its file ssh_host_ed25519_key.pub. Its base64 part is cut off')),
    ("no host key", f'{PIN} root@rack1"', 'SHA256:abc"',
     ('FILE:17: machines.rack1.host_key: found "SHA256:abc", allowed a host\'s public key such as "ssh-ed25519 AAAA…", the line '
     "of its file ssh_host_ed25519_key.pub")),
    ("private key as host key", f'{PIN} root@rack1"', '-----BEGIN OPENSSH PRIVATE KEY-----"',
     ("FILE:17: machines.rack1.host_key: found a private key, allowed a host's public key such as \"ssh-ed25519 AAAA…\", the "
     "line of its file ssh_host_ed25519_key.pub. This is a private key: take it out of this file, and think of it as known to others")),
    ("key and agent", "agent = true", 'agent = true\nkey = "keys/rack2"',
     ("FILE:24: machines.rack2.agent: found both key and agent, allowed one of the two. A key is a file; with agent = true the "
     "keys of the daemon's SSH agent are used")),
    ("home folder", '"keys/rack1"', '"~/.ssh/id_ed25519"',
     ('FILE:16: machines.rack1.key: found "~/.ssh/id_ed25519", allowed the path of a file, relative to this file or absolute. '
     "~ is not expanded: the daemon may run as another user")),
    ("user in the address", '"10.0.0.11"', '"root@10.0.0.11"',
     ('FILE:12: machines.rack1.address: found "root@10.0.0.11", allowed a host name such as rack1.example.org, or an IP address. '
     "The user goes into the key user")),
    ("port in the address", '"10.0.0.11"', '"rack1:22"',
     ('FILE:12: machines.rack1.address: found "rack1:22", allowed a host name such as rack1.example.org, or an IP address. '
     "A port goes into the key port")),
    ("an option as address", '"10.0.0.11"', '"-oProxyCommand=x"',
     'FILE:12: machines.rack1.address: found "-oProxyCommand=x", allowed a host name such as rack1.example.org, or an IP address'),
    ("no IP address", '"10.0.0.11"', '"10.0.0.256"',
     'FILE:12: machines.rack1.address: found "10.0.0.256", allowed a host name such as rack1.example.org, or an IP address'),
    ("no address", 'address = "10.0.0.11"\n', "",
     "FILE:11: machines.rack1.address: found nothing, allowed a host name such as rack1.example.org, or an IP address"),
    ("one machine, two names", '"fd00::12"\nagent = true', '"10.0.0.11"\nport = 2222\njump = "gate"',
     "FILE:23: machines.rack2.address: found the address and port of rack1, allowed each machine under one name"),
    ("misspelt key", "host_ca", "hostca", "FILE:9: machines.gate.hostca: found an unknown key, allowed one of address, agent, bmc, "
     'console, disk, host_ca, host_key, jump, key, port, user. Did you mean "host_ca"?'),
    ("password", "agent = true", 'password = "x"', "FILE:24: machines.rack2.password: found an unknown key, allowed one of address, "
     "agent, bmc, console, disk, host_ca, host_key, jump, key, port, user. A password has no place in a fleet file; log in with a key"),
    ("password of a BMC", "password_file = ", "password = ", "FILE:20: machines.rack1.bmc.password: found an unknown key, allowed one "
     "of ca, password_file, url, user. A password has no place in a fleet file; name the file that holds it in password_file"),
    ("user of a BMC alone", 'password_file = "rack1.password", ', "",
     "FILE:20: machines.rack1.bmc: found no password_file, allowed user and password_file, or neither"),
    ("BMC without TLS", "https://10.0.1.11", "http://10.0.1.11",
     ('FILE:20: machines.rack1.bmc.url: found "http://10.0.1.11/redfish/v1/Systems/1", allowed a Redfish system such as '
     "https://10.0.0.9/redfish/v1/Systems/1. Without TLS the password could be read on the way: http only to this machine itself")),
    ("BMC that is none", "/redfish/v1/Systems/1", "/",
     ('FILE:20: machines.rack1.bmc.url: found "https://10.0.1.11/", allowed a Redfish system such as '
     "https://10.0.0.9/redfish/v1/Systems/1. Its path is /redfish/v1/Systems/ and the system's name")),
    ("password in a URL", "http://10.0.0.1:8080", "http://me:secret@10.0.0.1:8080",
     ("FILE:5: images.web.mirror: found a URI with a password, allowed a URL such as http://10.0.0.1/images/web. A user or "
     "password has no place in a URL of this file")),
    ("mirror of another kind", "http://10.0.0.1:8080", "ftp://10.0.0.1",
     'FILE:5: images.web.mirror: found "ftp://10.0.0.1/web/", allowed a URL such as http://10.0.0.1/images/web'),
    ("mirror of nothing", 'simulated = ["1", "2"]', 'simulated = ["1", "2"]\nmirror = "http://10.0.0.1/app"',
     'FILE:44: images.app.mirror: found a mirror of a simulated family, allowed a mirror beside a "path"'),
    ("a device as serial", '"WD-WCC4N7"', '"/dev/sda"',
     ('FILE:18: machines.rack1.disk: found "/dev/sda", allowed a disk\'s serial number, as `lsblk -o NAME,SERIAL` shows it')),
    ("surge", 'promotion = "auto"', "max_surge = 1",
     ('FILE:36: pools.web.rollout.max_surge: found 1, allowed 0 for driver = "baremetal". The two slots of a machine never run '
     "side by side, so no server can be created first")),
    ("no budget", 'promotion = "auto"', "max_unavailable = 0",
     ("FILE:36: pools.web.rollout.max_unavailable: found 0, and max_surge is 0 where it is left out, allowed at least one of "
     "max_unavailable and max_surge above 0. With both at 0 no server could ever be replaced")),
    ("too many canaries", 'promotion = "auto"', "canaries = 3",
     "FILE:36: pools.web.rollout.canaries: found 3, allowed at most 2, the number of servers"),
    ("longer than the default deadline", 'promotion = "auto"', 'min_healthy_time = "15m"',
     "FILE:36: pools.web.rollout.min_healthy_time: found 15m, allowed less than healthy_deadline, which is 15m"),
    ("data", 'mode = "manual"', 'data = [{ name = "state", size = "1GiB" }]',
     ('FILE:30: pools.web.data: found a value, allowed no data disks for driver = "baremetal". The data partition is the '
     "machine's own and no rollout touches it; take the key out")),
    ("network", 'mode = "manual"', 'network = { bridge = "br0" }',
     ('FILE:30: pools.web.network: found a value, allowed no network for driver = "baremetal". A machine has its own address, in '
     "[machines.NAME]; take the key out")),
    ("hypervisors", 'mode = "manual"', "hypervisors = []",
     ('FILE:30: pools.web.hypervisors: found a value, allowed no hypervisors for driver = "baremetal". Its servers are its '
     "machines; take the key out")),
    ("memory", 'mode = "manual"', 'memory = "1GiB"',
     'FILE:30: pools.web.memory: found a value, allowed no memory for driver = "baremetal". A machine has what it has; take the key out'),
    ("no checks", '[[pools.web.health]]\nhttp = { port = 80, path = "/healthz" }\n', "",
     ('FILE:26: pools.web.health: found no checks, allowed at least one of tcp, http, ssh, command, such as tcp = { port = 22, '
     'expect = "SSH-" }. A server passes only by a look from outside: an image that never answers would pass otherwise')),
    ("guest agent", 'http = { port = 80, path = "/healthz" }', "agent = true",
     ('FILE:33: pools.web.health[0].agent: found the guest agent, allowed tcp, http, ssh or command for driver = "baremetal"')),
    ("simulated family", 'image = "web"\nmode', 'image = "app"\nmode',
     'FILE:29: pools.web.image: found the simulated family "app", allowed a family with a "path" for driver = "baremetal"'),
]


@pytest.mark.parametrize(("old", "new", "line"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_mistake_is_told_once_in_these_words(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert GOOD.count(old) >= 1
    assert lines_of(tmp_path, GOOD.replace(old, new, 1)) == [line]


def test_a_machine_is_in_one_pool_and_its_name_is_no_numbered_server_s(tmp_path: Path) -> None:
    second = '[pools.two]\ndriver = "baremetal"\nimage = "web"\nhealth = [{ tcp = { port = 22 } }]\nmachines = ["gate", "rack1"]\n'
    assert lines_of(tmp_path, GOOD + second) == [
        'FILE:48: pools.two.machines[1]: found "rack1", which pool web has, allowed a machine that is in no other pool']
    named = GOOD.replace("[machines.gate]", '[machines.app-3]\naddress = "10.0.0.3"\n[machines.gate]').replace('"rack2"]', '"app-3"]')
    assert lines_of(tmp_path, named) == [
        'FILE:30: pools.web.machines[1]: found "app-3", which is also a server of pool app, allowed a name that no other server '
        "has. Give the machine another name, in [machines.NAME]"]
    assert read(tmp_path, named.replace("app-3", "app-4")).pools["web"].machines == ("rack1", "app-4")
    assert read(tmp_path, named.replace("app-3", "app-03")).pools["web"].machines == ("rack1", "app-03")


def test_a_loop_of_jumps_is_told_at_each_machine_that_is_on_it(tmp_path: Path) -> None:
    told = lines_of(tmp_path, GOOD.replace('"gate.example.org"', '"gate.example.org"\njump = "rack2"').replace(
        "agent = true", 'jump = "gate"'))
    assert [line.split(", ")[0] for line in told] == [
        "FILE:9: machines.gate.jump: found gate through rack2 through gate",
        "FILE:25: machines.rack2.jump: found rack2 through gate through rack2"]


def test_a_mistake_elsewhere_in_the_pool_is_told_alone(tmp_path: Path) -> None:
    told = lines_of(tmp_path, GOOD.replace("port = 80,", "port = 0,").replace('promotion = "auto"', "max_surge = 1"))
    assert [line.split(": ")[1] for line in told] == ["pools.web.health[0].http.port", "pools.web.rollout.max_surge"]


def test_hostile_names_and_values_stay_on_one_printable_line(tmp_path: Path) -> None:
    text = GOOD + '["machines"."\\u001b[2J"]\naddress = "\\u202e\\n"\njump = "\\u0007"\nhost_key = "ssh-ed25519 \\u0000"\n'
    told = lines_of(tmp_path, text.replace('"rack2"]', '"rack2", "\\u001b]0;x\\u0007"]'))
    assert len(told) == 5 and all(line.isprintable() for line in told)
