"""Downloads against a local server that cuts, stalls, refuses and forgets; archives that try to do harm."""

from __future__ import annotations

import builtins
import hashlib
import http.server
import io
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gdown
import numpy as np
import pytest
import requests

from scripts import download_checkpoints as dl
from util.errors import DownloadError, MediaError, OptionError

SCRIPT = Path(dl.__file__)
QUICK = dl.Patience(timeout_s=5.0, attempts=4, pause_s=0.0, first_block_s=20.0)
ONCE = dl.Patience(timeout_s=5.0, attempts=1, pause_s=0.0, first_block_s=20.0)
LETTERS = ("G", "V", "E", "A_sync", "D")


def noise(count: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(count)


# ---------------------------------------------------------------- the server


class Site(http.server.ThreadingHTTPServer):
    """Serves `files`; `moods[path]` is a queue of how the next requests for the path are treated."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.moods: dict[str, list[str]] = {}
        self.seen: list[tuple[str, str | None]] = []  # path and Range header
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        return [header for _, header in self.seen]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.seen.append((self.path, self.headers.get("Range")))
        moods = self.server.moods.get(path, [])
        mood = moods.pop(0) if moods else "good"
        if mood.isdigit():
            self.send_error(int(mood))
        elif mood.startswith("to "):
            self.send_response(302)
            self.send_header("Location", mood.removeprefix("to "))
            self.end_headers()
        elif path not in self.server.files:
            self.send_error(404)
        else:
            self.send_file(self.server.files[path], mood)

    def send_file(self, content: bytes, mood: str) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and mood != "no range" else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        shifted = start + (mood == "shifted")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {shifted}-{len(content) - 1}/{len(content)}")
        if mood == "attachment":
            self.send_header("Content-Disposition", 'attachment; filename="demo.zip"')
        self.send_header("Content-Type", "text/html" if content[:1] == b"<" else "application/octet-stream")
        if mood != "no length":
            self.send_header("Content-Length", str(len(content) - shifted))
        self.end_headers()
        self.send_body(content[shifted:], mood)

    def send_body(self, body: bytes, mood: str) -> None:
        whole = mood not in ("half", "stall", "reset")
        self.wfile.write(body if whole else body[: len(body) // 2])
        if mood == "stall":
            self.server.closing.wait(30)
        elif mood == "reset":
            time.sleep(0.05)  # the client shall have read the half: a reset drops what is on the way
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "*")
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


# ---------------------------------------------------------------- archives to serve


def zip_bytes(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def weights(size: int = 2000, letters: tuple[str, ...] = LETTERS, epoch: str = "latest") -> dict[str, bytes]:
    return {f"{epoch}_net_{letter}.pth": noise(size, number) for number, letter in enumerate(letters)}


def demo_zip(size: int = 2000, folder: str = "checkpoints/demo/", **options: Any) -> bytes:
    return zip_bytes({folder + name: content for name, content in weights(size, **options).items()})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return tmp_path / "check points ü" / "demo"


def write_zip(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "brought.zip"
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- plain HTTP

PAYLOAD = noise(300_001, 7)


@pytest.fixture
def target(tmp_path: Path, site: Site) -> Path:
    site.files["/a.zip"] = PAYLOAD
    return tmp_path / "a.zip"


def part_of(target: Path) -> Path:
    return target.with_name("a.zip.part")


@pytest.mark.parametrize("mood", ["good", "no length"])
def test_fetch_http_good_server_gives_the_bytes(site: Site, target: Path, mood: str) -> None:
    site.moods["/a.zip"] = [mood]
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert not part_of(target).exists()


def test_fetch_http_counts_what_comes_also_without_a_bar(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tqdm import tqdm

    monkeypatch.setattr(dl, "_byte_bar", lambda name, start, total: tqdm(initial=start, total=total, disable=True))
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD


def test_get_weights_that_fails_leaves_no_folder(tmp_path: Path, closed_port: int) -> None:
    target = tmp_path / "checkpoints" / "demo"  # demo_vox.sh takes it for the published weights
    with pytest.raises(DownloadError):
        dl.get_weights(target, url=f"http://127.0.0.1:{closed_port}/demo.zip", patience=ONCE)
    assert not target.exists()


def test_fetch_http_target_there_asks_nothing(site: Site, target: Path) -> None:
    target.write_bytes(b"mine")
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == b"mine"
    assert site.seen == []


def test_fetch_http_truncated_keeps_the_part_and_the_next_run_resumes(site: Site, target: Path) -> None:
    site.moods["/a.zip"] = ["half"]
    with pytest.raises(DownloadError, match=r"cut off: got 150000 of 300001 bytes; 150000 bytes are kept .* run again"):
        dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert part_of(target).read_bytes() == PAYLOAD[:150_000]
    assert not target.exists()
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges() == [None, "bytes=150000-"]


def test_fetch_http_truncated_thrice_is_put_together_in_one_run(site: Site, target: Path) -> None:
    site.moods["/a.zip"] = ["half", "half", "half"]
    dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges() == [None, "bytes=150000-", "bytes=225000-", "bytes=262500-"]


def test_fetch_http_stalled_server_times_out_and_keeps_the_part(site: Site, target: Path) -> None:
    site.moods["/a.zip"] = ["stall"]
    with pytest.raises(DownloadError, match="broke off after 150000 bytes: the server did not answer in time"):
        dl.fetch_http(f"{site.url}/a.zip", target, dl.Patience(timeout_s=0.2, attempts=1))
    assert part_of(target).read_bytes() == PAYLOAD[:150_000]


def test_fetch_http_reset_connection_keeps_the_part_and_resumes(site: Site, target: Path) -> None:
    site.moods["/a.zip"] = ["reset"]
    with pytest.raises(DownloadError, match=r"broke off after .*reset"):
        dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    kept = part_of(target).read_bytes()
    assert kept
    assert PAYLOAD.startswith(kept)
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges()[1] == f"bytes={len(kept)}-"


def test_fetch_http_server_without_range_starts_over(
    site: Site, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part_of(target).write_bytes(b"x" * 1000)
    site.moods["/a.zip"] = ["no range"]
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert "cannot resume, starting over" in capsys.readouterr().err


def test_fetch_http_other_piece_than_asked_for_starts_over(site: Site, target: Path) -> None:
    part_of(target).write_bytes(PAYLOAD[:1000])
    site.moods["/a.zip"] = ["shifted"]
    dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges() == ["bytes=1000-", None]


def test_fetch_http_complete_part_is_only_renamed(site: Site, target: Path) -> None:
    part_of(target).write_bytes(PAYLOAD)
    dl.fetch_http(f"{site.url}/a.zip", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert len(site.seen) == 1


def test_fetch_http_part_longer_than_the_file_starts_over(site: Site, target: Path) -> None:
    part_of(target).write_bytes(PAYLOAD + b"more")
    dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert target.read_bytes() == PAYLOAD


def test_fetch_http_redirect_is_followed_with_its_range(site: Site, target: Path) -> None:
    part_of(target).write_bytes(PAYLOAD[:1000])
    site.moods["/raw"] = ["to /a.zip"]
    dl.fetch_http(f"{site.url}/raw", target, ONCE)
    assert target.read_bytes() == PAYLOAD
    assert site.seen[1] == ("/a.zip", "bytes=1000-")


@pytest.mark.parametrize(("status", "requests_made"), [("404", 1), ("403", 1), ("500", 4), ("503", 4)])
def test_fetch_http_error_status_is_named_and_only_passing_ones_are_retried(
    site: Site, target: Path, status: str, requests_made: int
) -> None:
    site.moods["/a.zip"] = [status] * 9
    with pytest.raises(DownloadError, match=f"{site.url}/a.zip: the server answered {status} "):
        dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert len(site.seen) == requests_made


def test_fetch_http_server_error_that_passes_is_survived(site: Site, target: Path) -> None:
    site.moods["/a.zip"] = ["503", "500"]
    dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert target.read_bytes() == PAYLOAD


def test_fetch_http_nobody_listening_says_no_connection(tmp_path: Path, closed_port: int) -> None:
    with pytest.raises(DownloadError, match=rf"{closed_port}/a.zip: no connection \(.*refused.*nothing has come"):
        dl.fetch_http(f"http://127.0.0.1:{closed_port}/a.zip", tmp_path / "a.zip", ONCE)


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as bound:  # bound and not listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_fetch_http_disk_full_is_said_and_not_taken_for_the_network(site: Site, target: Path) -> None:
    with FileSizeLimit(100_000), pytest.raises(DownloadError, match=r"zip.part: cannot be written: File too large"):
        dl.fetch_http(f"{site.url}/a.zip", target, QUICK)
    assert len(site.seen) == 1
    assert not target.exists()


class FileSizeLimit:
    """Makes the system refuse to write beyond a size, as a full disk does."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    def __enter__(self) -> None:
        self.old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_bytes, self.old[1]))

    def __exit__(self, *args: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.old)


# ---------------------------------------------------------------- the weights, through gdown


def test_get_weights_fetched_are_unpacked_and_nothing_else_stays(
    site: Site, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights()
    assert not (demo / ".download").exists()
    assert f"SHA-256 {hashlib.sha256(site.files['/demo.zip']).hexdigest()}" in capsys.readouterr().out


def test_get_weights_second_run_says_so_and_asks_nothing(
    site: Site, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    site.seen.clear()
    capsys.readouterr()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert site.seen == []
    assert capsys.readouterr().out == f"{demo}: the weights are there (latest: G V E A_sync), nothing to do\n"


def test_get_weights_force_fetches_again_and_replaces(site: Site, demo: Path) -> None:
    demo.mkdir(parents=True)
    for name in weights():
        (demo / name).write_bytes(b"older")
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", force=True, patience=ONCE)
    assert contents(demo) == weights()


@pytest.mark.parametrize("attempts", [1, 2])
def test_get_weights_truncated_keeps_the_part_and_the_next_run_resumes(site: Site, demo: Path, attempts: int) -> None:
    site.files["/demo.zip"] = demo_zip(size=600_000)  # gdown writes blocks of 512 KiB
    site.moods["/demo.zip"] = ["half"] * attempts
    with pytest.raises(DownloadError, match=r"demo.zip: cut off; \d+ bytes are kept in .*--from_zip FILE"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=dl.Patience(attempts=attempts))
    (part,) = (demo / ".download").iterdir()
    kept = part.read_bytes()
    assert len(kept) >= 512 * 1024
    assert site.files["/demo.zip"].startswith(kept)
    assert list(demo.glob("*.pth")) == []
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights(600_000)
    assert f"bytes={len(kept)}-" in site.ranges()


def test_get_weights_truncated_once_is_put_together_in_one_run(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = demo_zip(size=600_000)
    site.moods["/demo.zip"] = ["half"]
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=dl.Patience(attempts=2))
    assert contents(demo) == weights(600_000)
    assert site.ranges() == [None, "bytes=1048576-"]


def test_get_weights_stalled_server_times_out(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = demo_zip()
    site.moods["/demo.zip"] = ["stall"]
    with pytest.raises(DownloadError, match="timed out"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=dl.Patience(timeout_s=0.3, attempts=1))


@pytest.mark.parametrize("kept", [b"x" * 5000, b"x" * 50_000], ids=["no range", "longer than the file"])
def test_get_weights_part_that_cannot_be_continued_starts_over(site: Site, demo: Path, kept: bytes) -> None:
    site.files["/demo.zip"] = demo_zip()
    site.moods["/demo.zip"] = ["no range", "no range"]
    (demo / ".download").mkdir(parents=True)
    (demo / ".download" / "demo.zipabcdefgh.part").write_bytes(kept)
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights()


def test_get_weights_two_parts_goes_on_with_the_larger(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = demo_zip()
    (demo / ".download").mkdir(parents=True)
    (demo / ".download" / "demo.zipaaaaaaaa.part").write_bytes(site.files["/demo.zip"][:4000])
    (demo / ".download" / "demo.zipbbbbbbbb.part").write_bytes(site.files["/demo.zip"][:100])
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights()
    assert "bytes=4000-" in site.ranges()


@pytest.mark.parametrize("status", ["404", "500"])
def test_get_weights_error_status_is_named_with_the_way_by_hand(site: Site, demo: Path, status: str) -> None:
    site.files["/demo.zip"] = demo_zip()
    site.moods["/demo.zip"] = [status] * 9
    with pytest.raises(DownloadError, match=rf"demo.zip: the server answered {status} .*file/d/1Zehr3.*--from_zip"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)


def test_get_weights_offline_is_one_clear_message(demo: Path, closed_port: int) -> None:
    with pytest.raises(DownloadError, match=r"no connection \(.*refused\); nothing has come; or by hand:") as caught:
        dl.get_weights(demo, url=f"http://127.0.0.1:{closed_port}/demo.zip", patience=ONCE)
    assert "\n" not in str(caught.value)
    assert "HTTPConnectionPool" not in str(caught.value)


def test_get_weights_page_served_as_zip_is_deleted_and_named(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = b"<!DOCTYPE html><html><head><title>Log in to\n the airport</title></head></html>"
    with pytest.raises(DownloadError, match=r"a web page \(Log in to the airport\).*it is deleted.*--from_zip"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == {}


def test_get_weights_damaged_zip_is_deleted_and_writes_nothing(site: Site, demo: Path) -> None:
    content = bytearray(zip_bytes(weights(), zipfile.ZIP_STORED))
    content[content.index(weights()["latest_net_A_sync.pth"]) + 9] ^= 0xFF
    site.files["/demo.zip"] = bytes(content)
    with pytest.raises(DownloadError, match=r"damaged \(Bad CRC-32 for file 'latest_net_A_sync.pth'\); it is deleted"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == {}


def test_get_weights_disk_full_while_unpacking_keeps_the_archive(
    site: Site, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/demo.zip"] = demo_zip()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1234))  # type: ignore[attr-defined]
    with pytest.raises(DownloadError, match=r"unpacked it takes 10000 bytes and .* has 1234 free; make room"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == {".download/demo.zip": site.files["/demo.zip"]}
    monkeypatch.undo()
    site.seen.clear()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights()
    assert site.seen == []


def test_get_weights_gdown_missing_names_the_package(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_gdown(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "gdown":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gdown)
    with pytest.raises(OptionError, match=r"gdown is missing: pip install 'gdown>=6.4'"):
        dl.get_weights(demo, url="http://127.0.0.1/demo.zip", patience=ONCE)


def test_get_weights_gdown_too_old_is_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdown, "download", lambda url, output, resume: output)
    with pytest.raises(OptionError, match=r"too old to resume safely: pip install 'gdown>=6.4'"):
        dl.get_weights(demo, url="http://127.0.0.1/demo.zip", patience=ONCE)


# Google's pages: the real gdown, with drive.google.com answered by the local server.


@pytest.fixture
def drive(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    real = requests.Session.get

    def local(session: requests.Session, url: str, **options: Any) -> requests.Response:
        for host in ("https://drive.google.com", "https://docs.google.com", "https://drive.usercontent.google.com"):
            url = url.replace(host, site.url)
        return real(session, url, **options)

    monkeypatch.setattr(requests.Session, "get", local)
    site.files["/download"] = demo_zip()
    return site


WARNING_PAGE = b"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">\
<input type="hidden" name="id" value="1Zeh"><input type="hidden" name="confirm" value="t"></form></body></html>"""


def test_get_weights_virus_scan_page_is_answered_without_cookies_on_disk(
    drive: Site, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["gdown.download"], "DEFAULT_COOKIES_FILE", str(tmp_path / "cookies.txt"))
    drive.files["/uc"] = WARNING_PAGE
    drive.moods["/download"] = ["attachment"]
    dl.get_weights(demo, patience=ONCE)
    assert contents(demo) == weights()
    assert drive.seen[0][0] == "/uc?id=1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_"
    assert "confirm=t" in drive.seen[1][0]
    assert not (tmp_path / "cookies.txt").exists()


def test_get_weights_virus_scan_page_in_a_circle_ends(drive: Site, demo: Path) -> None:
    drive.files["/uc"] = drive.files["/download"] = WARNING_PAGE
    with pytest.raises(DownloadError, match=r"Google's pages led to no file within 0.3 s.*--from_zip FILE"):
        dl.get_weights(demo, patience=dl.Patience(attempts=1, first_block_s=0.3))


def test_get_weights_quota_page_is_named_and_the_part_survives(drive: Site, demo: Path) -> None:
    text = b"Too many users have viewed or downloaded this file recently. Please try accessing the file again later."
    drive.files["/uc"] = b'<!DOCTYPE html><html><p class="uc-error-subcaption">' + text + b"</p></html>"
    (demo / ".download").mkdir(parents=True)
    part = demo / ".download" / "demo.zipabcdefgh.part"
    part.write_bytes(b"x" * 77)
    with pytest.raises(DownloadError, match=r"quota is used up; try again tomorrow\); 77 bytes are kept in"):
        dl.get_weights(demo, patience=ONCE)
    assert part.read_bytes() == b"x" * 77


def test_get_weights_unknown_page_of_google_is_one_line(drive: Site, demo: Path) -> None:
    drive.files["/uc"] = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    with pytest.raises(DownloadError, match=r"Google Drive sent a page instead of the file \(.*permission") as caught:
        dl.get_weights(demo, patience=ONCE)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- a zip fetched by hand


@pytest.mark.parametrize("folder", ["", "demo/", "checkpoints/demo/", "a/b/c/"])
def test_get_weights_from_zip_finds_the_members_wherever_they_lie(tmp_path: Path, demo: Path, folder: str) -> None:
    path = write_zip(tmp_path, demo_zip(folder=folder))
    dl.get_weights(demo, from_zip=path)
    assert contents(demo) == weights()
    assert path.exists()


def test_get_weights_from_zip_ignores_clutter_and_other_files(tmp_path: Path, demo: Path) -> None:
    clutter = {
        "__MACOSX/demo/._latest_net_G.pth": b"1",
        "demo/._latest_net_V.pth": b"2",
        "demo/.DS_Store": b"3",
        "demo/opt.txt": b"4",
        "demo/latest_net_notes.txt": b"5",
    }
    dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes({**weights(), **clutter})))
    assert contents(demo) == weights()


def test_get_weights_from_zip_other_epoch_and_without_d_is_taken(tmp_path: Path, demo: Path) -> None:
    expected = weights(letters=("G", "V", "E", "A_sync"), epoch="best_12")
    dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(expected)))
    assert contents(demo) == expected
    assert dl.whole_epochs(demo) == ["best_12"]


@pytest.mark.parametrize("letter", ["G", "V", "E", "A_sync"])
def test_get_weights_from_zip_missing_letter_is_named(tmp_path: Path, demo: Path, letter: str) -> None:
    present = tuple(other for other in LETTERS if other != letter)
    with pytest.raises(DownloadError, match=rf"brought.zip: not the demo weights, .* for {letter}; it holds"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, demo_zip(letters=present)))
    assert contents(demo) == {}


def test_get_weights_from_zip_letters_of_two_epochs_do_not_add_up(tmp_path: Path, demo: Path) -> None:
    mixed = {**weights(letters=("G", "V"), epoch="1"), **weights(letters=("E", "A_sync"), epoch="2")}
    with pytest.raises(DownloadError, match="not the demo weights"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(mixed)))


def test_get_weights_from_zip_single_checkpoint_is_no_demo_zip(tmp_path: Path, demo: Path) -> None:
    torch_like = zip_bytes({"archive/data.pkl": b"x", "archive/version": b"3"})
    with pytest.raises(DownloadError, match=r"for G, V, E, A_sync; it holds archive/data.pkl, archive/version"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, torch_like))


def test_get_weights_from_zip_same_name_twice_is_refused(tmp_path: Path, demo: Path) -> None:
    doubled = {**weights(), "old/latest_net_G.pth": b"x"}
    with pytest.raises(DownloadError, match=r"holds latest_net_G.pth twice: latest_net_G.pth and old/latest_net_G.pth"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(doubled)))


def test_get_weights_from_zip_missing_file_is_named(tmp_path: Path, demo: Path) -> None:
    with pytest.raises(DownloadError, match=r"nowhere.zip: no such file; by hand: open https://drive"):
        dl.get_weights(demo, from_zip=tmp_path / "nowhere.zip")
    assert not demo.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not a zip archive, or cut off \(0 bytes\)"),
        (demo_zip()[:-400], "not a zip archive, or cut off"),
        (noise(5000, 3), "not a zip archive"),
        (demo_zip()[3000:], "not a readable zip archive|damaged"),
        (b"\n<html><title>x</title>", r"a web page \(x\) was saved instead of the file; by hand"),
        (b"<html>no name", r"a web page \(no title\)"),
        (b"<html><head><title>Google Drive - Quota exceeded</title>", "saved instead of the file; .*quota is used up"),
        (WARNING_PAGE, "Google Drive sent its virus-scan warning page instead of the file"),
    ],
    ids=["empty", "cut tail", "noise", "cut head", "page", "page without title", "quota page", "virus page"],
)
def test_get_weights_from_zip_wrong_file_is_explained_and_kept(
    tmp_path: Path, demo: Path, content: bytes, message: str
) -> None:
    path = write_zip(tmp_path, content)
    with pytest.raises(DownloadError, match=message):
        dl.get_weights(demo, from_zip=path)
    assert contents(demo) == {}
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    ["../evil.pth", "a/../../evil.pth", "/evil.pth", "C:evil.pth", "c:\\e.pth", "..\\evil.pth", "\\\\host\\evil.pth"],
)
def test_get_weights_member_that_leads_out_is_refused(tmp_path: Path, demo: Path, name: str) -> None:
    path = write_zip(tmp_path, zip_bytes({**weights(), name: b"evil"}))
    before = contents(tmp_path)
    with pytest.raises(DownloadError, match=r"refused, the member .* leads out of the folder"):
        dl.get_weights(demo, from_zip=path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_get_weights_link_or_device_is_refused(tmp_path: Path, demo: Path, kind: int) -> None:
    path = write_zip(tmp_path, demo_zip())
    info = zipfile.ZipInfo("old_net_G.pth")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DownloadError, match=r"refused, the member 'old_net_G.pth' is a link or a device"):
        dl.get_weights(demo, from_zip=path)
    assert contents(demo) == {}


def test_get_weights_encrypted_zip_is_refused(tmp_path: Path, demo: Path) -> None:
    content = bytearray(demo_zip())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(DownloadError, match=r"the member 'checkpoints/demo/latest_net_G.pth' is encrypted"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, bytes(content)))


def test_get_weights_other_compression_is_refused(tmp_path: Path, demo: Path) -> None:
    path = write_zip(tmp_path, zip_bytes(weights(), zipfile.ZIP_BZIP2))
    with pytest.raises(DownloadError, match="is compressed by method 12, not deflate"):
        dl.get_weights(demo, from_zip=path)


def test_get_weights_understated_size_writes_no_more_than_declared(tmp_path: Path, demo: Path) -> None:
    bomb = {**weights(), "latest_net_G.pth": b"\0" * 10_000_000}
    content = zip_bytes(bomb)
    content = content.replace(struct.pack("<I", 10_000_000), struct.pack("<I", 50))
    assert struct.pack("<I", 10_000_000) not in content
    with pytest.raises(DownloadError, match="damaged"), FileSizeLimit(100_000):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, content))
    assert contents(demo) == {}


def test_get_weights_overstated_size_is_damaged(tmp_path: Path, demo: Path) -> None:
    content = demo_zip(size=3333).replace(struct.pack("<I", 3333), struct.pack("<I", 3334))
    with pytest.raises(DownloadError, match=r"damaged \(.*latest_net_G.pth has 3333 bytes instead of 3334\)"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, content))
    assert contents(demo) == {}


def test_get_weights_write_error_leaves_no_half_files(tmp_path: Path, demo: Path) -> None:
    path = write_zip(tmp_path, demo_zip(size=50_000))
    with FileSizeLimit(20_000), pytest.raises(DownloadError, match="cannot be written: File too large"):
        dl.get_weights(demo, from_zip=path)
    assert contents(demo) == {}


def test_get_weights_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(MediaError, match=r"checkpoints.*the folder cannot be made"):
        dl.get_weights(tmp_path / "checkpoints" / "demo", from_zip=write_zip(tmp_path, demo_zip()))


def test_get_weights_whole_files_stay_untouched(tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.mkdir(parents=True)
    for name in ("latest_net_G.pth", "latest_net_D.pth"):
        (demo / name).write_bytes(weights()[name])
    before = (demo / "latest_net_G.pth").stat()
    dl.get_weights(demo, from_zip=write_zip(tmp_path, demo_zip()))
    after = (demo / "latest_net_G.pth").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(demo) == weights()
    assert "latest_net_G.pth: was there" in capsys.readouterr().out


@pytest.mark.parametrize("own", [b"my own", noise(2000, 99)], ids=["other size", "same size"])
def test_get_weights_other_training_in_the_way_is_an_error_and_writes_nothing(
    tmp_path: Path, demo: Path, own: bytes
) -> None:
    demo.mkdir(parents=True)
    (demo / "latest_net_V.pth").write_bytes(own)
    path = write_zip(tmp_path, demo_zip())
    with pytest.raises(DownloadError, match=r"latest_net_V.pth: differs from .*brought.zip; --force replaces it"):
        dl.get_weights(demo, from_zip=path)
    assert contents(demo) == {"latest_net_V.pth": own}
    dl.get_weights(demo, from_zip=path, force=True)
    assert contents(demo) == weights()


def test_get_weights_cut_off_file_is_fetched_anew(site: Site, demo: Path) -> None:
    demo.mkdir(parents=True)
    pickled = zip_bytes({"archive/data.pkl": noise(1000, 5)})  # a torch file is a zip
    for name, content in {**weights(), "latest_net_E.pth": pickled[:-100], "latest_net_G.pth": b""}.items():
        (demo / name).write_bytes(content)
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip", patience=ONCE)
    assert contents(demo) == weights()


def test_get_weights_target_on_another_disk_by_link_is_filled(tmp_path: Path, demo: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    demo.parent.mkdir()
    demo.symlink_to(elsewhere)
    dl.get_weights(demo, from_zip=write_zip(tmp_path, demo_zip()))
    assert contents(elsewhere) == weights()


# ---------------------------------------------------------------- the samples

SAMPLES = {
    "Input": {"517/000000.jpg": noise(900, 11), "517/000001.jpg": noise(901, 12)},
    "Pose_Source": {"518/000000.jpg": noise(902, 13)},
    "Audio_Source": {"a b ü.mp3": noise(903, 14)},
    "Mouth_Source": {"519/000000.jpg": noise(904, 15)},
}
CSV = b"misc/Input/517 2 misc/Pose_Source/518 1 misc/Audio_Source/a.mp3 None 0 dummy\n"
EXPECTED = {f"{folder}/{name}": c for folder, files in SAMPLES.items() for name, c in files.items()} | {"demo.csv": CSV}


@pytest.fixture
def samples(site: Site) -> Site:
    tops = {"Input": "Input/", "Pose_Source": "", "Audio_Source": "misc/Audio_Source/", "Mouth_Source": "misc/"}
    for folder, files in SAMPLES.items():
        site.files[f"/{folder}.zip"] = zip_bytes({tops[folder] + name: content for name, content in files.items()})
    site.files["/demo.csv"] = CSV
    return site


@pytest.fixture
def misc(tmp_path: Path) -> Path:
    return tmp_path / "misc"


def sample_files(misc: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(misc).items() if name != dl.RECEIPT}


def test_get_samples_any_layout_lands_in_the_same_place(
    samples: Site, misc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED
    output = capsys.readouterr().out
    assert "CC-BY-4.0" in output
    assert output.count("SHA-256 ") == 5
    assert not (misc / ".download").exists()


def test_get_samples_second_run_says_so_and_asks_nothing(
    samples: Site, misc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    samples.seen.clear()
    capsys.readouterr()
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert samples.seen == []
    assert capsys.readouterr().out == f"{misc}: the sample inputs are there, nothing to do\n"


def test_get_samples_file_gone_fetches_only_its_archive(samples: Site, misc: Path) -> None:
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    (misc / "Input/517/000001.jpg").unlink()
    samples.seen.clear()
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED
    assert samples.seen == [("/Input.zip", None)]


@pytest.mark.parametrize("receipt", ["{", "[]", '{"files": 3}', '{"files": {"Input": 3}}'])
def test_get_samples_broken_receipt_is_looked_at_again(samples: Site, misc: Path, receipt: str) -> None:
    misc.mkdir()
    (misc / dl.RECEIPT).write_text(receipt)
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED


def test_get_samples_own_files_stay_and_that_is_said(
    samples: Site, misc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"Input/me/000000.jpg": b"me", "Input/517/000000.jpg": b"changed", "demo.csv": b"my row"}
    for name, content in own.items():
        (misc / name).parent.mkdir(parents=True, exist_ok=True)
        (misc / name).write_bytes(content)
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED | own
    assert "000000.jpg: differs from the sample (1 such files), kept; --force" in capsys.readouterr().out
    dl.get_samples(misc, url=samples.url, force=True, patience=ONCE)
    assert sample_files(misc) == EXPECTED | {"Input/me/000000.jpg": b"me"}


def test_get_samples_rows_of_the_bundled_model_make_way(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / "demo.csv").write_text("misc/Input/synthetic_a 1 None 0 misc/Audio_Source/synthetic_b.wav None 0 None\n")
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert (misc / "demo.csv").read_bytes() == CSV
    assert (misc / "demo_synthetic.csv").read_text().startswith("misc/Input/synthetic_a")


def test_get_samples_bundled_rows_with_the_users_among_them_stay(samples: Site, misc: Path) -> None:
    misc.mkdir()
    rows = "misc/Input/synthetic_a 1 None 0 a.wav None 0 None\nmisc/Input/me 1 None 0 a.wav None 0 None\n"
    (misc / "demo.csv").write_text(rows)
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert (misc / "demo.csv").read_text() == rows


def test_get_samples_broken_off_goes_on_where_it_was(samples: Site, misc: Path) -> None:
    samples.moods["/Audio_Source.zip"] = ["half"]
    message = r"Audio_Source.zip: cut off.*run again to go on; or by hand: open .* save it as .*misc/Audio_Source.zip"
    with pytest.raises(DownloadError, match=message):
        dl.get_samples(misc, url=samples.url, patience=ONCE)
    half = len(samples.files["/Audio_Source.zip"]) // 2
    samples.seen.clear()
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED
    assert samples.seen[0] == ("/Audio_Source.zip", f"bytes={half}-")
    assert "/Input.zip" not in [path for path, _ in samples.seen]


def test_get_samples_brought_archive_is_used_and_not_deleted(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / "Input.zip").write_bytes(samples.files.pop("/Input.zip"))
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert (misc / "Input/517/000001.jpg").read_bytes() == SAMPLES["Input"]["517/000001.jpg"]
    assert (misc / "Input.zip").exists()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/Input.zip", b"<html><title>Page not found</title>", r"a web page \(Page not found\).*it is deleted"),
        ("/Input.zip", zip_bytes({}), "holds no files; it is deleted"),
        ("/Input.zip", zip_bytes({"../x.jpg": b"x"}), "leads out of the folder; it is deleted"),
        ("/demo.csv", b"<!doctype html>", r"demo.csv: a web page \(no title\).*save it as .*misc/demo.csv"),
    ],
    ids=["page", "empty", "escape", "csv page"],
)
def test_get_samples_wrong_content_is_deleted_and_named(
    samples: Site, misc: Path, path: str, content: bytes, message: str
) -> None:
    good, samples.files[path] = samples.files[path], content
    with pytest.raises(DownloadError, match=message):
        dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert path.removeprefix("/") not in contents(misc)
    samples.files[path] = good
    dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert sample_files(misc) == EXPECTED


def test_get_samples_brought_wrong_archive_is_kept(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / "Input.zip").write_bytes(b"nothing")
    with pytest.raises(DownloadError, match=r"Input.zip: not a zip archive.*; by hand: open"):
        dl.get_samples(misc, url=samples.url, patience=ONCE)
    assert (misc / "Input.zip").read_bytes() == b"nothing"


@pytest.mark.parametrize("url", ["file:///etc", "ftp://x", "github.com/x", "http://ü.example", "https://a b"])
def test_get_samples_address_that_is_none_names_the_flag(misc: Path, url: str) -> None:
    with pytest.raises(OptionError, match="--samples_url must be a plain http"):
        dl.get_samples(misc, url=url)


# ---------------------------------------------------------------- command line


@pytest.fixture
def flags(tmp_path: Path, site: Site) -> list[str]:
    return [
        *("--checkpoints_dir", str(tmp_path / "ck")),
        *("--misc_dir", str(tmp_path / "misc")),
        *("--weights_url", f"{site.url}/demo.zip"),
        *("--samples_url", site.url),
    ]


def test_main_fetches_weights_and_samples(samples: Site, tmp_path: Path, flags: list[str]) -> None:
    samples.files["/demo.zip"] = demo_zip()
    assert dl.main([*flags, "--samples", "--name", "other"]) == 0
    assert contents(tmp_path / "ck" / "other") == weights()
    assert sample_files(tmp_path / "misc") == EXPECTED


def test_main_weights_out_of_reach_still_gets_the_samples_and_fails(
    samples: Site, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dl.main([*flags, "--samples"]) == 1
    assert sample_files(tmp_path / "misc") == EXPECTED
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "404" in errors[0]


def test_main_from_zip_and_force_reach_the_weights(site: Site, tmp_path: Path, flags: list[str]) -> None:
    brought = ["--from_zip", str(write_zip(tmp_path, demo_zip()))]
    (tmp_path / "ck" / "demo").mkdir(parents=True)
    (tmp_path / "ck" / "demo" / "latest_net_G.pth").write_bytes(b"other")
    assert dl.main(flags + brought) == 1
    assert dl.main([*flags, *brought, "--force"]) == 0
    assert contents(tmp_path / "ck" / "demo") == weights()
    assert site.seen == []


def test_main_ctrl_c_keeps_the_part_and_exits_130(samples: Site, tmp_path: Path, flags: list[str]) -> None:
    dl.main([*flags, "--from_zip", str(write_zip(tmp_path, demo_zip()))])
    samples.files["/Input.zip"] = PAYLOAD
    samples.moods["/Input.zip"] = ["stall"]
    process = subprocess.Popen([sys.executable, SCRIPT, *flags, "--samples"], stderr=subprocess.PIPE, text=True)
    part = tmp_path / "misc" / ".download" / "Input.zip.part"
    wait_until(lambda: part.exists() and part.stat().st_size == 150_000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted: what has come is kept" in errors
    assert "Traceback" not in errors
    assert part.read_bytes() == PAYLOAD[:150_000]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("what the test waits for does not come")


def test_import_needs_neither_torch_nor_gdown() -> None:
    code = "import sys, scripts.download_checkpoints; print({'torch', 'gdown', 'requests', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=SCRIPT.parents[1], text=True) == "set()\n"
