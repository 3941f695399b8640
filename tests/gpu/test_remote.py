"""Another machine's devices, from a real HTTP server that plays its exporter."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot
from smarterrouter.gpu.remote import Refused, RemoteNode, understood

MIB = 1 << 20
GIB = 1 << 30


# --- what exporters say -------------------------------------------------------------------------


def dcgm(used: int = 5120, free: int = 18944, total: int | None = None) -> str:
    """Two cards, the second by a node that shares it between two pods."""
    first = (
        'gpu="0",UUID="GPU-11111111-2222-3333-4444-555555555555",pci_bus_id="00000000:01:00.0",'
        'device="nvidia0",modelName="NVIDIA GeForce RTX 4090",Hostname="desk"'
    )
    second = (
        'gpu="1",UUID="GPU-66666666-7777-8888-9999-000000000000",pci_bus_id="00000000:02:00.0",'
        'device="nvidia1",modelName="NVIDIA RTX A4000",Hostname="desk",DCGM_FI_DRIVER_VERSION="575"'
    )
    rows = [
        "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).",
        "# TYPE DCGM_FI_DEV_SM_CLOCK gauge",
        f"DCGM_FI_DEV_SM_CLOCK{{{first}}} 2520",
        "# HELP DCGM_FI_DEV_FB_FREE Framebuffer memory free (in MiB).",
        "# TYPE DCGM_FI_DEV_FB_FREE gauge",
        f"DCGM_FI_DEV_FB_FREE{{{first}}} {free}",
        f'DCGM_FI_DEV_FB_FREE{{{second},pod="a"}} 15000',
        f'DCGM_FI_DEV_FB_FREE{{{second},pod="b"}} 15000',
        "# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).",
        "# TYPE DCGM_FI_DEV_FB_USED gauge",
        f"DCGM_FI_DEV_FB_USED{{{first}}} {used}",
        f"DCGM_FI_DEV_FB_USED{{{second}}} 1",
        "# TYPE DCGM_FI_DEV_FB_RESERVED gauge",
        f"DCGM_FI_DEV_FB_RESERVED{{{first}}} 500",
        f"DCGM_FI_DEV_FB_RESERVED{{{second}}} 375",
        "# TYPE DCGM_FI_DEV_MEMORY_TEMP gauge",
        f"DCGM_FI_DEV_MEMORY_TEMP{{{first}}} 9223372036854775794",
    ]
    if total is not None:
        rows.append(f"DCGM_FI_DEV_FB_TOTAL{{{first}}} {total}")
    return "\n".join(rows) + "\n"


MIG = """\
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",GPU_I_PROFILE="3g.20gb",GPU_I_ID="1"} 100
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",GPU_I_PROFILE="3g.20gb",GPU_I_ID="1"} 19900
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",GPU_I_PROFILE="3g.20gb",GPU_I_ID="2"} 200
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1",modelName="NVIDIA A100",GPU_I_PROFILE="3g.20gb",GPU_I_ID="2"} 19800
"""  # noqa: E501

NVITOP = """\
# HELP host_virtual_memory_total_MiB Host virtual memory total (MiB).
# TYPE host_virtual_memory_total_MiB gauge
host_virtual_memory_total_MiB{hostname="192.0.2.7"} 64225.5
# HELP gpu_memory_total_MiB GPU memory total (MiB).
# TYPE gpu_memory_total_MiB gauge
gpu_memory_total_MiB{devicename="NVIDIA GeForce RTX 3090",hostname="192.0.2.7",index="10",uuid="GPU-b"} 24576.0
gpu_memory_total_MiB{devicename="NVIDIA GeForce RTX 3060",hostname="192.0.2.7",index="2",uuid="GPU-a"} 12288.0
# HELP gpu_memory_used_MiB GPU memory used (MiB).
# TYPE gpu_memory_used_MiB gauge
gpu_memory_used_MiB{devicename="NVIDIA GeForce RTX 3090",hostname="192.0.2.7",index="10",uuid="GPU-b"} 1024.5
gpu_memory_used_MiB{devicename="NVIDIA GeForce RTX 3060",hostname="192.0.2.7",index="2",uuid="GPU-a"} 288.0
# HELP gpu_memory_free_MiB GPU memory free (MiB).
# TYPE gpu_memory_free_MiB gauge
gpu_memory_free_MiB{devicename="NVIDIA GeForce RTX 3090",hostname="192.0.2.7",index="10",uuid="GPU-b"} 23000.0
gpu_memory_free_MiB{devicename="NVIDIA GeForce RTX 3060",hostname="192.0.2.7",index="2",uuid="GPU-a"} 12000.0
# TYPE gpu_memory_percent_Percentage gauge
gpu_memory_percent_Percentage{devicename="NVIDIA GeForce RTX 3060",hostname="192.0.2.7",index="2",uuid="GPU-a"} 2.3
"""  # noqa: E501

NVIDIA_SMI = """\
# HELP nvidia_smi_gpu_info A metric with a constant '1' value labeled by gpu uuid, name and more.
# TYPE nvidia_smi_gpu_info gauge
nvidia_smi_gpu_info{index="1",name="NVIDIA GeForce RTX 2080 SUPER",uuid="aaaa"} 1
nvidia_smi_gpu_info{index="0",name="NVIDIA GeForce GTX 1080",uuid="bbbb"} 1
# TYPE nvidia_smi_memory_free_bytes gauge
nvidia_smi_memory_free_bytes{uuid="aaaa"} 7.883194368e+09
nvidia_smi_memory_free_bytes{uuid="bbbb"} 8.0e+09
# TYPE nvidia_smi_memory_total_bytes gauge
nvidia_smi_memory_total_bytes{uuid="aaaa"} 8.589934592e+09
nvidia_smi_memory_total_bytes{uuid="bbbb"} 8.5e+09
# TYPE nvidia_smi_memory_used_bytes gauge
nvidia_smi_memory_used_bytes{uuid="aaaa"} 7.06740224e+08
nvidia_smi_memory_used_bytes{uuid="bbbb"} 5.0e+08
"""

VRAM = json.dumps(
    {
        "devices": [
            {
                "id": "amd0",
                "node": "local",
                "vendor": "amd",
                "name": "AMD Radeon RX 7900 XTX",
                "total_bytes": 24 * GIB,
                "used_bytes": 5 * GIB,
                "free_bytes": 19 * GIB,
                "foreign_bytes": GIB,
                "source": "sysfs amdgpu vram",
            },
            {"id": "intel0", "node": "local", "vendor": "intel", "name": "Intel Arc B580"}
            | {"total_bytes": 12 * GIB, "used_bytes": None, "free_bytes": None},
            {"id": "cellar/nvidia0", "node": "cellar", "vendor": "nvidia", "name": "elsewhere"}
            | {"total_bytes": 8 * GIB, "used_bytes": 0, "free_bytes": 8 * GIB},
        ]
    }
)
INDEX_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>GPU Exporter</title></head><body>hello</body></html>"
)


# --- the machine --------------------------------------------------------------------------------

Act = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Machine:
    """What it says by path. ``asked`` holds the paths and headers it was asked with."""

    says: dict[str, tuple[int, str | bytes] | Act]
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((request.path, {k.lower(): v for k, v in request.headers.items()}))
        self.connections.add(request.client_address)
        says = self.says.get(request.path, (404, "404 page not found"))
        if callable(says):
            return says(request)
        status, text = says
        body = text.encode() if isinstance(text, str) else text
        request.send_response(status)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        return None

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine({})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def node(machine: Machine) -> Iterator[Callable[..., RemoteNode]]:
    made: list[RemoteNode] = []

    def make(path: str = "", total: int | None = None, **more: object) -> RemoteNode:
        made.append(RemoteNode("desk", machine.url + path, total, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for probe in made:
        probe.close()


Make = Callable[..., RemoteNode]


def figures(snapshots: tuple[MemorySnapshot, ...]) -> list[tuple[object, ...]]:
    return [(s.device.id, s.device.total_bytes, s.used_bytes, s.free_bytes) for s in snapshots]


# --- who tells ----------------------------------------------------------------------------------


def test_dcgm_without_a_total_adds_up_its_parts(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, dcgm())
    probe = node("/metrics")
    first, second = probe.snapshots()
    name = "NVIDIA GeForce RTX 4090"
    total = (5120 + 18944 + 500) * MIB
    assert first.device == GpuDevice("desk/nvidia0", "desk", "nvidia", name, total)
    assert first.used_bytes == (5120 + 500) * MIB  # what the driver keeps is not to be had
    assert first.free_bytes == 18944 * MIB
    assert first.source == "dcgm-exporter"
    assert first.processes is None
    assert second.device.id == "desk/nvidia1"
    assert second.device.total_bytes == (1 + 15000 + 375) * MIB
    assert probe.problem is None


def test_dcgm_with_a_total_is_believed(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, dcgm(total=24564))
    assert node("/metrics").snapshots()[0].device.total_bytes == 24564 * MIB


def test_dcgms_blank_is_unknown(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, dcgm(used=2147483632, free=2147483632, total=24564))
    first = node("/metrics").snapshots()[0]
    assert first.device.total_bytes == 24564 * MIB
    assert (first.used_bytes, first.free_bytes) == (None, None)


def test_the_parts_of_a_card_that_is_cut_up_are_devices(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, MIG)
    assert figures(node("/metrics").snapshots()) == [
        ("desk/nvidia0.1", 20000 * MIB, 100 * MIB, 19900 * MIB),
        ("desk/nvidia0.2", 20000 * MIB, 200 * MIB, 19800 * MIB),
    ]


def test_nvitops_exporter_is_understood(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, NVITOP)
    snapshots = node("/metrics").snapshots()
    assert figures(snapshots) == [
        ("desk/nvidia2", 12288 * MIB, 288 * MIB, 12000 * MIB),
        ("desk/nvidia10", 24576 * MIB, 1576 * MIB, 23000 * MIB),
    ]
    assert snapshots[0].device.name == "NVIDIA GeForce RTX 3060"
    assert snapshots[0].source == "nvitop-exporter"


def test_the_exporter_that_asks_nvidia_smi_is_understood(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, NVIDIA_SMI)
    snapshots = node("/metrics").snapshots()
    assert figures(snapshots) == [
        ("desk/nvidia0", 8500000000, 500000000, 8000000000),
        ("desk/nvidia1", 8589934592, 706740224, 7883194368),
    ]
    assert snapshots[1].device.name == "NVIDIA GeForce RTX 2080 SUPER"


@pytest.mark.parametrize("path", ["", "/", "/admin/vram"])
def test_another_smarterrouter_tells_of_its_own_devices(
    machine: Machine, node: Make, path: str
) -> None:
    machine.says["/admin/vram"] = (200, VRAM)
    machine.says["/metrics"] = (200, "smarterrouter_requests_total 5\n")
    snapshots = node(path).snapshots()
    assert figures(snapshots) == [
        ("desk/amd0", 24 * GIB, 5 * GIB, 19 * GIB),
        ("desk/intel0", 12 * GIB, None, None),
    ]
    assert {(s.device.node, s.source) for s in snapshots} == {("desk", "smarterrouter")}
    assert snapshots[0].device.vendor == "amd"


def test_a_bare_address_finds_an_exporter_and_remembers_where(machine: Machine, node: Make) -> None:
    machine.says |= {"/": (200, INDEX_PAGE), "/metrics": (200, dcgm())}
    probe = node()
    assert probe.snapshots() == probe.snapshots()
    assert machine.paths == ["/admin/vram", "/metrics", "/metrics"]
    assert probe.problem is None


def test_an_address_without_its_scheme_is_http(machine: Machine) -> None:
    machine.says["/metrics"] = (200, dcgm())
    with closing(RemoteNode("desk", machine.url.removeprefix("http://"))) as probe:
        assert len(probe.snapshots()) == 2


def test_the_headers_are_sent_and_the_connection_is_kept(machine: Machine, node: Make) -> None:
    machine.says["/admin/vram"] = (200, VRAM)
    probe = node("/admin/vram", headers={"Authorization": "Bearer secret"})
    for _ in range(3):
        probe.snapshots()
    assert {headers["authorization"] for _, headers in machine.asked} == {"Bearer secret"}
    assert len(machine.connections) == 1


def test_what_is_closed_during_a_look_is_let_go_of_when_the_look_ends(
    machine: Machine, node: Make
) -> None:
    asked, may_answer = Event(), Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        may_answer.wait(2)
        machine.says["/metrics"] = (200, dcgm())
        machine.answer(request)

    machine.says["/metrics"] = slow
    probe = node("/metrics")
    looking = Thread(target=probe.snapshots)
    looking.start()
    assert asked.wait(2)
    probe.close()
    may_answer.set()
    looking.join()
    assert probe.problem is None
    del probe
    gc.collect()  # an open socket would make itself heard


def test_a_compressed_answer_is_read(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, gzip.compress(dcgm().encode()))
    machine.headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; version=0.0.4"}
    assert len(node("/metrics").snapshots()) == 2


# --- what a stated total does -------------------------------------------------------------------


def test_without_an_address_the_stated_total_is_the_device() -> None:
    [seen] = RemoteNode("desk", None, 24 * GIB).snapshots()
    assert (seen.device.id, seen.device.node) == ("desk/stated", "desk")
    assert (seen.device.total_bytes, seen.used_bytes, seen.free_bytes) == (24 * GIB, None, None)
    assert seen.source == "stated"


def test_without_address_and_total_there_is_nothing() -> None:
    probe = RemoteNode("desk", None)
    assert probe.snapshots() == ()
    assert probe.problem is None


def test_a_stated_total_overrides_that_of_an_only_device(machine: Machine, node: Make) -> None:
    only = "".join(row for row in NVITOP.splitlines(True) if 'index="10"' not in row)
    machine.says["/metrics"] = (200, only)
    seen = node("/metrics", 10 * GIB).snapshots()
    assert figures(seen) == [("desk/nvidia2", 10 * GIB, 288 * MIB, 10 * GIB - 288 * MIB)]


def test_a_stated_total_does_not_touch_one_of_several(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, NVITOP)
    totals = [s.device.total_bytes for s in node("/metrics", 10 * GIB).snapshots()]
    assert totals == [12288 * MIB, 24576 * MIB]


# --- away ---------------------------------------------------------------------------------------


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/metrics"


def test_a_machine_that_was_never_reached_is_its_stated_total() -> None:
    with closing(RemoteNode("desk", nobody(), 24 * GIB)) as probe:
        [seen] = probe.snapshots()
        assert (seen.device.id, seen.source) == ("desk/stated", "stated")
        assert probe.problem
        assert "cannot be reached" in probe.problem
    with closing(RemoteNode("desk", nobody())) as probe:
        assert probe.snapshots() == ()


def test_once_reached_the_real_devices_take_the_place_of_the_stated(
    machine: Machine, node: Make
) -> None:
    probe = node("/metrics", 24 * GIB)
    assert [s.device.id for s in probe.snapshots()] == ["desk/stated"]
    machine.says["/metrics"] = (200, dcgm())
    assert [s.device.id for s in probe.snapshots()] == ["desk/nvidia0", "desk/nvidia1"]


def test_the_devices_of_a_machine_that_went_away_keep_their_ids(
    machine: Machine, node: Make
) -> None:
    machine.says["/metrics"] = (200, dcgm())
    probe = node("/metrics")
    before = probe.snapshots()
    machine.says["/metrics"] = (500, "Internal Server Error")
    assert probe.snapshots() == tuple(MemorySnapshot(s.device, None, None, "away") for s in before)
    assert "answers 500" in str(probe.problem)
    machine.says["/metrics"] = (200, dcgm())
    assert probe.snapshots() == before
    assert probe.problem is None


def test_a_device_that_its_machine_no_longer_tells_of_has_gone(
    machine: Machine, node: Make
) -> None:
    machine.says["/metrics"] = (200, NVITOP)
    probe = node("/metrics")
    before = probe.snapshots()
    rest = "".join(row for row in NVITOP.splitlines(True) if 'index="10"' not in row)
    machine.says["/metrics"] = (200, rest)
    seen = probe.snapshots()
    assert seen[0] == before[0]
    assert seen[1] == MemorySnapshot(before[1].device, None, None, "away", gone=True)


# --- answers of no use --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, INDEX_PAGE, "not with GPU memory"),
        (200, "", "not with GPU memory"),
        (200, '{"devices": [{"id": 5}]}', "not with GPU memory"),
        (200, '{"devices": []}', "not with GPU memory"),
        (200, '{"devices": [', "not with GPU memory"),
        (200, "[1, 2]", "not with GPU memory"),
        (200, bytes(range(256)) * 40, "not with GPU memory"),
        (200, "node_memory_MemTotal_bytes 6.7e+10\n", "not with GPU memory"),
        (200, 'DCGM_FI_DEV_FB_USED{gpu="0" 5120\nDCGM_FI_DEV_FB_FREE{} x', "not with GPU memory"),
        (401, "no", "headers"),
        (403, "no", "headers"),
        (404, "no", "no figures at that address"),
        (302, "", "redirects"),
        (503, "busy", "answers 503"),
    ],
)
def test_an_answer_of_no_use_is_a_problem_and_no_device(
    machine: Machine, node: Make, status: int, body: str | bytes, words: str
) -> None:
    machine.says["/metrics"] = (status, body)
    probe = node("/metrics")
    assert probe.snapshots() == ()
    assert words in str(probe.problem)


def test_a_refused_key_is_told_rather_than_a_missing_page(machine: Machine, node: Make) -> None:
    machine.says["/admin/vram"] = (401, "{}")
    probe = node()
    assert probe.snapshots() == ()
    assert "answers 401" in str(probe.problem)


def test_a_broken_compression_is_a_problem(machine: Machine, node: Make) -> None:
    machine.says["/metrics"] = (200, b"this is not gzip")
    machine.headers = {"Content-Encoding": "gzip"}
    probe = node("/metrics")
    assert probe.snapshots() == ()
    assert probe.problem


def test_a_line_of_garbage_spoils_no_other(machine: Machine, node: Make) -> None:
    garbage = 'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GP\nDCGM_FI_DEV_FB_FREE{gpu="0"} NaNaN\n\x00{}\n'
    machine.says["/metrics"] = (200, garbage + dcgm())
    assert figures(node("/metrics").snapshots())[0][2:] == (5620 * MIB, 18944 * MIB)


def test_an_endless_answer_is_cut_off(machine: Machine, node: Make) -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        for _ in range(64):
            request.wfile.write(b"# " + b"x" * MIB + b"\n")

    machine.says["/metrics"] = flood
    probe = node("/metrics")
    assert probe.snapshots() == ()
    assert "far too much" in str(probe.problem)


def test_a_slow_answer_is_not_waited_for(machine: Machine, node: Make) -> None:
    machine.says["/admin/vram"] = lambda _: time.sleep(1)
    probe = node(timeout_s=0.1)
    began = time.monotonic()
    assert probe.snapshots() == ()
    assert time.monotonic() - began < 0.8
    assert "did not answer within 0.1 s" in str(probe.problem)
    assert machine.paths == ["/admin/vram"]  # the other address would not be faster


def test_an_answer_that_trickles_is_not_waited_for(machine: Machine, node: Make) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        for _ in range(40):
            request.wfile.write(b"#")
            request.wfile.flush()
            time.sleep(0.05)

    machine.says["/metrics"] = trickle
    probe = node("/metrics", timeout_s=0.2)
    began = time.monotonic()
    assert probe.snapshots() == ()
    assert time.monotonic() - began < 1.2
    assert "did not answer" in str(probe.problem)


@pytest.mark.parametrize(
    "url", ["http://[::1", "ftp://desk/metrics", "http://desk:port/", "http://\udcff/", "http://"]
)
def test_a_wrong_address_is_a_problem_and_no_crash(url: str) -> None:
    with closing(RemoteNode("desk", url, headers={"X": "y"})) as probe:
        assert probe.snapshots() == ()
        assert probe.problem


def test_a_password_in_the_address_is_not_told(machine: Machine) -> None:
    url = machine.url.replace("http://", "http://me:hidden@") + "/metrics?key=alsohidden"
    with closing(RemoteNode("desk", url)) as probe:
        probe.snapshots()
        assert "hidden" not in str(probe.problem)


LINES = st.text(alphabet='{}",=\\ #+-.019eEaNinf\t\n', max_size=40).map(
    lambda rest: f"DCGM_FI_DEV_FB_USED{{{rest}"
)


@given(st.text() | LINES | st.text(max_size=20).map(lambda rest: VRAM[:150] + rest))
def test_no_text_can_do_worse_than_be_of_no_use(text: str) -> None:
    with suppress(Refused):
        assert understood(text)
