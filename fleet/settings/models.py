"""The fleet file as pydantic models: every key, its type, its default and what it means, in one place.

`config/schema.json` and `docs/settings.md` are generated from here. The models check one value at a time; what holds
between keys is in `checks.py`. Defaults are those of `core.desired`, which has them from the contract.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fleet.core.desired import Amount, Breaker
from fleet.core.grammar import format_breaker
from fleet.settings import hosts as h
from fleet.settings import values as v


class Table(BaseModel):
    """A TOML table: no unknown keys, and no value is taken for another type (true is not 1, "3" is not 3)."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


class FleetTable(Table):
    """`[fleet]`"""

    name: v.NameValue = Field(description="what this fleet is called on screen and in every object anew makes")
    authorized_keys: list[v.PublicKey] = Field(default=[], max_length=100, description="public keys that every server of every pool trusts")


class HypervisorTable(Table):
    """`[hypervisors.NAME]`"""

    uri: v.Uri = Field(description="where libvirt answers: `qemu:///system`, `qemu+ssh://root@kvm1/system`, `test:///default`")
    acceleration: Literal["auto", "kvm", "tcg"] = Field(default="auto", description="`auto` proves KVM by booting with it")


class BmcTable(Table):
    """`bmc = { … }`"""

    url: h.BmcUrl = Field(description="its Redfish system: `https://10.0.0.9/redfish/v1/Systems/1`")
    user: h.BmcUser | None = Field(default=None, description="who logs in there; needs `password_file`")
    password_file: h.FilePath | None = Field(default=None, description="file that holds the password and nothing else")
    ca: h.FilePath | None = Field(default=None, description="certificate authority that it must answer with; the system's own if left out")


class MachineTable(Table):
    """`[machines.NAME]`: a host that is reached by SSH. Without `host_key` and `host_ca` nothing is ever sent to it."""

    address: h.HostAddress = Field(description="host name or IP address")
    port: v.Port = Field(default=22, description="where its SSH server listens")
    user: v.UserName = Field(default="root", description="who logs in; anyone but root needs a rule for `sudo` or a forced command")
    jump: v.NameValue | None = Field(default=None, description="another machine through which it is reached")
    key: h.FilePath | None = Field(default=None, description="private key to log in with; anew's own if left out")
    agent: bool = Field(default=False, description="log in with the keys of the daemon's SSH agent instead")
    host_key: h.HostKey | None = Field(default=None, description="the public key it must prove to have; `anew machine pin` writes it")
    host_ca: h.HostKey | None = Field(default=None, description="the public key of an authority whose host certificates are good, too")
    disk: h.Serial | None = Field(default=None, description="serial number of the disk that a first install may write")
    console: h.FilePath | None = Field(default=None, description="file to which its serial console is written by something else")
    bmc: BmcTable | None = Field(default=None, description="its management controller")


class ImageTable(Table):
    """`[images.FAMILY]`: one of `path` and `simulated`."""

    path: v.PathValue | None = Field(default=None, description="folder with one folder per version, each with its image.toml")
    simulated: list[v.VersionValue] | None = Field(default=None, max_length=1000, description="versions that exist only in the simulated world")
    mirror: h.MirrorUrl | None = Field(
        default=None, description="URL below which bare-metal hosts find the same files (`VERSION/FILE`); checked by digest")


class UserNetwork(Table):
    """`network = { user = { … } }`"""

    address: v.Address = Field(default="127.0.0.1", description="where the forwarded ports listen")
    first_port: v.Port = Field(description="first of 2 × `servers` ports: old and new may live side by side")
    guest_port: v.Port = Field(default=22, description="port inside the server that they lead to")


class NetworkTable(Table):
    """`network`: one of the three keys."""

    user: UserNetwork | None = Field(default=None, description="QEMU user networking with forwarded ports; needs no privileges")
    network: v.DeviceName | None = Field(default=None, description="a libvirt network")
    bridge: v.DeviceName | None = Field(default=None, description="a bridge of the hypervisor")


class DataTable(Table):
    """An entry of `data`"""

    name: v.DiskName = Field(description="disk name; the guest sees it as the disk's serial number")
    size: v.DiskSize = Field(description="size at first use; never made smaller")


class TcpTable(Table):
    """`tcp = { … }`"""

    port: v.Port = Field(description="port to connect to")
    expect: v.Line | None = Field(default=None, description="what the server must say first; without it the connection must stay open")


class HttpTable(Table):
    """`http = { … }`"""

    port: v.Port = Field(description="port to ask")
    path: v.UrlPath = Field(default="/", description="path to ask for")
    status: v.HttpStatus = Field(default=200, description="the answer that means healthy; redirects are not followed")


class SshTable(Table):
    """`ssh = { … }`, or just the command as a string"""

    command: v.Line = Field(description="command whose exit code 0 means healthy")
    user: v.UserName | None = Field(default=None, description="who runs it; the pool's `ssh_user` if left out")


def _ssh_command(value: object) -> object:
    return {"command": value} if isinstance(value, str) else value


def _or_text(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"type": "string", "minLength": 1})


class HealthTable(Table):
    """`[[pools.NAME.health]]`: one of the five kinds. At least one check of a pool must come from outside (not `agent`)."""

    tcp: TcpTable | None = Field(default=None, description="connect, and see the banner")
    http: HttpTable | None = Field(default=None, description="ask over HTTP")
    ssh: Annotated[SshTable | None, BeforeValidator(_ssh_command)] = Field(
        default=None, description="run a command over SSH: a string, or `{ command, user }`",
        json_schema_extra=_or_text)
    agent: Literal[True] | None = Field(default=None, description="the guest agent answers; counts only beside an outside check")
    command: list[v.Argument] | None = Field(
        default=None, max_length=64, min_length=1, description="argv run beside the daemon, with `{name}` `{address}` `{version}`; 0 means healthy")
    deadline: v.ShortDuration = Field(default=5.0, description="one answer may take so long")
    interval: v.ShortDuration = Field(default=2.0, description="from one question to the next")


class WindowTable(Table):
    """`[[pools.NAME.windows]]`: outside of all of them no server is begun on"""

    days: list[v.Weekday] = Field(default=["mon", "tue", "wed", "thu", "fri", "sat", "sun"], max_length=7, min_length=1, description="`mon` to `sun`; left out: every day")
    start: v.ClockTime = Field(description='wall-clock time of its zone, such as `"22:00"`')
    length: v.WindowLength = Field(description="elapsed time, past midnight if need be")
    time_zone: v.ZoneName = Field(description="IANA name, such as `Europe/Berlin`")


class HooksTable(Table):
    """`[pools.NAME.hooks]`: argv without a shell, with `{name}` `{address}` `{version}`"""

    drain: list[v.Argument] = Field(default=[], max_length=64, description="run before a server is stopped")
    admit: list[v.Argument] = Field(default=[], max_length=64, description="run when a new incarnation has proved itself")


class RolloutTable(Table):
    """`[pools.NAME.rollout]`"""

    max_unavailable: v.AmountValue = Field(
        default=Amount(1), description="how many servers may be missing at a moment; percents round down", json_schema_extra={"default": 1})
    max_surge: v.AmountValue | None = Field(
        default=None, description="how many may be extra; percents round up. None on bare metal",
        json_schema_extra={"default": 0})
    canaries: v.AmountValue = Field(
        default=Amount(1), description="how many go first; never rounded to 0 unless written 0", json_schema_extra={"default": 1})
    promotion: Literal["manual", "auto"] = Field(default="manual", description="after the canaries: wait for a person, or go on")
    min_healthy_time: v.AnyDuration = Field(default=10.0, description="healthy without a gap for so long before a server counts")
    healthy_deadline: v.Deadline = Field(default=300.0, description="one server, from boot to healthy")
    progress_deadline: v.Deadline = Field(default=600.0, description="no server became healthy for so long: the rollout stops")
    drain_deadline: v.AnyDuration = Field(default=120.0, description="the drain hook may take so long; then on, with a warning")
    max_failures: v.Failures = Field(default=0, description="failed servers tolerated; of canaries none")
    on_failure: Literal["pause", "rollback"] = Field(
        default="pause", description="once the failed server is put back: wait for a person, or undo all")
    retain: v.LongDuration = Field(default=86_400.0, description="how long a replaced incarnation stays startable")
    order: Literal["oldest", "name", "newest"] = Field(default="oldest", description="who is replaced first")
    checkpoints: list[v.Checkpoint] = Field(default=[], max_length=20, description="percents of the servers after which to stop and look, ascending")
    checkpoint_pause: v.PauseValue = Field(
        default=None, description='how long to stop there: a duration, or `"manual"` for a person', json_schema_extra={"default": "manual"})
    on_disconnect: Literal["continue", "pause"] = Field(
        default="continue", description="if the terminal that drives the rollout goes away: go on without it, or pause")


class SimTable(Table):
    """`[pools.NAME.sim]`, for `driver = "sim"`"""

    seed: v.Seed = Field(default=0, description="the same seed gives the same world")
    boot: v.AnyDuration = Field(default=2.0, description="how long a server takes to boot")
    jitter: v.Share = Field(default=0.3, description="share by which times vary, 0 to 1")
    in_place: bool = Field(default=False, description="its servers are machines with two slots, as on bare metal")
    places: v.SimPlaces = Field(default=1, description="over how many simulated hypervisors its servers are spread")
    faults: dict[v.VersionValue, v.Fault] = Field(
        default={}, max_length=1000, description="version = `never-healthy`, `never-boots`, `dies-after 3s` or `writable-root`")


class PoolTable(Table):
    """`[pools.NAME]`"""

    driver: Literal["libvirt", "baremetal", "sim"] = Field(description="what makes its servers live")
    servers: v.Servers | None = Field(default=None, description="how many")
    image: v.NameValue = Field(description="image family")
    channel: Literal["stable"] = Field(default="stable", description="which channel of the family it follows")
    root: Literal["read-only", "ephemeral"] = Field(
        default="read-only", description="`ephemeral`: writes are allowed and thrown away with the incarnation")
    mode: Literal["observe", "manual", "auto"] = Field(
        default="observe", description="show what is due and touch nothing, act when told, or act by itself inside the windows")
    hypervisors: list[v.NameValue] = Field(default=[], max_length=1000, description="where the servers of a libvirt pool live")
    machines: list[v.NameValue] = Field(
        default=[], max_length=10_000, description="the machines of a bare-metal pool; each is a server of the same name")
    memory: v.Memory = Field(default=268_435_456, description="of one virtual server")
    vcpus: v.Vcpus = Field(default=1, description="of one virtual server")
    network: NetworkTable | None = Field(default=None, description="how its servers are reached")
    data: list[DataTable] = Field(default=[], max_length=16, description="disks of virtual servers that outlive every incarnation")
    health: list[HealthTable] = Field(default=[], max_length=16, description="all must pass; a sim pool's health is simulated")
    hooks: HooksTable = Field(default_factory=HooksTable, description="programs run at drain and admission")
    rollout: RolloutTable = Field(default_factory=RolloutTable, description="what a rollout promises")
    sim: SimTable | None = Field(default=None, description="the simulated world of a sim pool")
    authorized_keys: list[v.PublicKey] = Field(default=[], max_length=100, description="public keys that its servers trust beside the fleet's")
    ssh_user: v.UserName = Field(default="root", description="who SSH checks log in as")
    windows: list[WindowTable] = Field(default=[], max_length=64, description="when servers may be begun on; none: always")
    approvals: v.Approvals = Field(default=0, description="so many other people must approve a plan before it may start; a rollback needs none")
    approval_expiry: v.Age = Field(default=86_400.0, description="how long an approval is good for, and a plan waits for the next one")
    max_age: v.Age | None = Field(
        default=None, description="an older incarnation is due for re-birth on the stable image, somewhere within the next tenth of that time")
    breaker: v.BreakerValue = Field(
        default=Breaker(), description='so many of the servers unwell within that time: mode `auto` stops and says so; or `"off"`',
        json_schema_extra={"default": format_breaker(Breaker())})
    after: list[v.NameValue] = Field(default=[], max_length=1000, description="pools that come first: this one waits while they roll or are behind")


class AccessTable(Table):
    """`[access]`: `user:NAME` and `group:NAME`. root and the daemon's own user are operators always."""

    observers: list[v.Member] = Field(default=[], max_length=1000, description="may look")
    operators: list[v.Member] = Field(default=[], max_length=1000, description="may act")
    approvers: list[v.Member] = Field(default=[], max_length=1000, description="may approve plans")


class FleetFile(Table):
    """A fleet file of anew"""

    fleet: FleetTable = Field(description="the fleet as a whole")
    hypervisors: dict[v.NameValue, HypervisorTable] = Field(default={}, description="libvirt connections by name")
    machines: dict[v.NameValue, MachineTable] = Field(default={}, description="hosts that are reached by SSH, by name")
    images: dict[v.NameValue, ImageTable] = Field(description="image families by name")
    pools: dict[v.NameValue, PoolTable] = Field(description="pools by name")
    access: AccessTable = Field(default_factory=AccessTable, description="who may look, act, approve")
