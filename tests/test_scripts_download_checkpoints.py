"""Downloads against a local server that cuts, stalls, refuses and forgets; archives that try to do harm."""

from __future__ import annotations

import contextlib
import http.server
import io
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import download_checkpoints as dl
from util.errors import DownloadError

SCRIPT = Path(dl.__file__)
LETTERS = ("G", "V", "E", "A_sync", "D")
QUOTA_PAGE = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>"
    b"Too many users have viewed or downloaded this file recently.</body></html>"
)


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
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(dl, "PAUSE_S", 0.0)
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dl, "ATTEMPTS", 1)


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as bound:  # bound and not listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Makes the system refuse to write beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


# ---------------------------------------------------------------- fetching

PAYLOAD = noise(300_001, 7)


@pytest.fixture
def target(tmp_path: Path, site: Site) -> Path:
    site.files["/a.zip"] = PAYLOAD
    return tmp_path / "a.zip"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def fetch(site: Site, target: Path) -> None:
    dl.fetch(f"{site.url}/{target.name}", target, "or else")


@pytest.mark.parametrize("mood", ["good", "no length"])
def test_fetch_good_server_gives_the_bytes(site: Site, target: Path, mood: str) -> None:
    site.moods["/a.zip"] = [mood]
    fetch(site, target)
    assert target.read_bytes() == PAYLOAD
    assert not part_of(target).exists()


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("half", "the connection broke off"),
        ("reset", "the connection broke off"),
        ("stall", "the server did not answer in time"),
    ],
)
@pytest.mark.usefixtures("one_attempt")
def test_fetch_broken_off_keeps_the_part_and_the_next_run_resumes(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch, mood: str, reason: str
) -> None:
    monkeypatch.setattr(dl, "TIMEOUT_S", 0.3)
    site.moods["/a.zip"] = [mood]
    with pytest.raises(DownloadError, match=rf"/a.zip: {reason}; \d+ bytes are kept, run again to go on, or or else"):
        fetch(site, target)
    kept = part_of(target).read_bytes()
    assert len(kept) >= 131_072  # of the 150,000 that were sent
    assert PAYLOAD.startswith(kept)
    assert not target.exists()
    fetch(site, target)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges() == [None, f"bytes={len(kept)}-"]


def test_fetch_broken_off_thrice_is_put_together_in_one_run(site: Site, target: Path) -> None:
    target = target.with_name("long.zip")
    site.files["/long.zip"] = content = noise(2_000_000, 8)
    site.moods["/long.zip"] = ["half", "reset", "half"]
    fetch(site, target)
    assert target.read_bytes() == content
    starts = [int(header[6:-1]) for header in site.ranges() if header]
    assert len(starts) == 3
    assert 900_000 < starts[0] < starts[1] < starts[2]


def test_fetch_retries_after_pauses_that_double(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(dl, "PAUSE_S", 1.0)
    monkeypatch.setattr(dl.time, "sleep", slept.append)
    site.moods["/a.zip"] = ["503", "500", "429"]
    fetch(site, target)
    assert target.read_bytes() == PAYLOAD
    assert slept == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("status", "requests_made"), [("404", 1), ("403", 1), ("500", 4), ("503", 4)])
def test_fetch_error_status_is_named_and_only_passing_ones_are_retried(
    site: Site, target: Path, status: str, requests_made: int
) -> None:
    site.moods["/a.zip"] = [status] * 9
    with pytest.raises(DownloadError, match=rf"{site.url}/a.zip: the server answered {status} [\w ]+; or else"):
        fetch(site, target)
    assert len(site.seen) == requests_made


@pytest.mark.parametrize(
    ("part", "mood", "ranges"),
    [
        (b"x" * 1000, "no range", ["bytes=1000-"]),
        (PAYLOAD[:1000], "shifted", ["bytes=1000-", None]),
        (PAYLOAD + b"more", "good", ["bytes=300005-", None]),
        (PAYLOAD, "good", ["bytes=300001-"]),
    ],
    ids=["server cannot resume", "other piece than asked for", "longer than the file", "complete"],
)
def test_fetch_part_that_cannot_be_continued_ends_as_the_whole_file(
    site: Site, target: Path, part: bytes, mood: str, ranges: list[str | None]
) -> None:
    part_of(target).write_bytes(part)
    site.moods["/a.zip"] = [mood]
    fetch(site, target)
    assert target.read_bytes() == PAYLOAD
    assert site.ranges() == ranges


def test_fetch_redirect_is_followed_with_its_range(site: Site, target: Path) -> None:
    part_of(target).write_bytes(PAYLOAD[:1000])
    site.moods["/raw"] = ["to /a.zip"]
    dl.fetch(f"{site.url}/raw", target, "")
    assert target.read_bytes() == PAYLOAD
    assert site.seen[1] == ("/a.zip", "bytes=1000-")


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"\n<html><title>Log in to\n the airport</title>", r"a web page \(Log in to the airport\) came instead"),
        (b"<!doctype html>", r"a web page \(no title\) came instead of the file"),
        (QUOTA_PAGE, "Google Drive hands the file out no more for now"),
    ],
    ids=["title", "no title", "quota"],
)
def test_fetch_page_instead_of_the_file_is_named_and_the_part_survives(
    site: Site, target: Path, page: bytes, reason: str
) -> None:
    part_of(target).write_bytes(PAYLOAD[:77])
    site.files["/a.zip"] = page
    site.moods["/a.zip"] = ["no range"]
    with pytest.raises(DownloadError, match=f"{reason}.*; 77 bytes are kept, run again to go on, or or else"):
        fetch(site, target)
    assert part_of(target).read_bytes() == PAYLOAD[:77]
    assert not target.exists()
    assert len(site.seen) == 1


def test_fetch_nobody_listening_is_one_clear_line(tmp_path: Path, closed_port: int, site: Site) -> None:
    with pytest.raises(DownloadError) as caught:
        dl.fetch(f"http://127.0.0.1:{closed_port}/a.zip", tmp_path / "a.zip", "or else")
    assert str(caught.value) == f"http://127.0.0.1:{closed_port}/a.zip: Connection refused; or else"


def test_fetch_disk_full_is_said_and_not_taken_for_the_network(site: Site, target: Path) -> None:
    with file_size_limit(100_000), pytest.raises(DownloadError, match=r"zip.part: cannot be written: File too large"):
        fetch(site, target)
    assert len(site.seen) == 1
    assert not target.exists()


@pytest.mark.parametrize(
    "url",
    [
        dl.WEIGHTS_URL,
        "https://drive.google.com/uc?id=1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_&export=download",
        "https://drive.google.com/open?authuser=0&id=1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_",
    ],
)
def test_fetch_drive_link_asks_for_the_file_itself_and_confirms(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(
        dl, "DRIVE_DOWNLOAD", dl.DRIVE_DOWNLOAD.replace("https://drive.usercontent.google.com", site.url)
    )
    site.files["/download"] = PAYLOAD
    dl.fetch(url, target, "")
    assert target.read_bytes() == PAYLOAD
    assert site.seen == [("/download?export=download&confirm=t&id=1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_", None)]


# ---------------------------------------------------------------- the weights, fetched


def test_get_weights_fetched_are_unpacked_and_nothing_else_stays(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo) == weights()
    assert not (demo / dl.WORK).exists()


def test_get_weights_second_run_asks_nothing_unless_forced(
    site: Site, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.mkdir(parents=True)
    for name in weights():
        (demo / name).write_bytes(b"older")
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert site.seen == []
    assert capsys.readouterr().out == f"{demo}: the weights are there (latest: G V E A_sync), nothing to do\n"
    dl.get_weights(demo, url=f"{site.url}/demo.zip", force=True)
    assert contents(demo) == weights()


@pytest.mark.usefixtures("one_attempt")
def test_get_weights_broken_off_goes_on_in_the_next_run(site: Site, demo: Path) -> None:
    site.files["/demo.zip"] = demo_zip(size=60_000)
    site.moods["/demo.zip"] = ["half"]
    with pytest.raises(DownloadError, match=r"bytes are kept, run again to go on, or by hand: .*/d/1Zehr.*--from_zip"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip")
    ((name, part),) = contents(demo).items()
    assert name == ".download/demo.zip.part"
    dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo) == weights(60_000)
    assert site.ranges() == [None, f"bytes={len(part)}-"]


def test_get_weights_nothing_came_leaves_no_folder(site: Site, demo: Path) -> None:
    with pytest.raises(DownloadError, match="404"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert not demo.exists()


def test_get_weights_damaged_zip_is_deleted_and_writes_nothing(site: Site, demo: Path) -> None:
    content = bytearray(zip_bytes(weights(), zipfile.ZIP_STORED))
    content[content.index(weights()["latest_net_A_sync.pth"]) + 9] ^= 0xFF
    site.files["/demo.zip"] = bytes(content)
    with pytest.raises(DownloadError, match=r"usable: Bad CRC-32 for file 'latest_net_A_sync.pth'; it is deleted, run"):
        dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo.parent) == {}


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_get_weights_damaged_compressed_data_is_one_clear_error(
    site: Site, demo: Path, capsys: pytest.CaptureFixture[str], compression: int
) -> None:
    site.files["/demo.zip"] = content = bytearray(zip_bytes(weights(), compression))
    start = content.index(b"latest_net_V.pth") + 16
    content[start : start + 600] = b"\xff" * 600
    flags = ["--checkpoints_dir", str(demo.parent), "--weights_url", f"{site.url}/demo.zip"]
    assert dl.main(flags) == 1
    said = capsys.readouterr().err
    assert "demo.zip: not usable: " in said
    assert "; it is deleted, run again to fetch it anew, or by hand: " in said
    assert "Traceback" not in said
    assert contents(demo.parent) == {}


def test_get_weights_disk_full_while_unpacking_keeps_the_archive(site: Site, demo: Path) -> None:
    files = weights() | {"latest_net_V.pth": bytes(200_000)}
    site.files["/demo.zip"] = zip_bytes(files)
    with (
        file_size_limit(100_000),
        pytest.raises(DownloadError, match=r"demo.zip: cannot be unpacked into .*demo: File too large"),
    ):
        dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo) == {".download/demo.zip": site.files["/demo.zip"]}
    dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo) == files
    assert len(site.seen) == 1


def test_get_weights_cut_off_file_is_fetched_anew(site: Site, demo: Path) -> None:
    demo.mkdir(parents=True)
    pickled = zip_bytes({"archive/data.pkl": noise(1000, 5)})  # a torch file is a zip
    for name, content in {**weights(), "latest_net_E.pth": pickled[:-100], "latest_net_G.pth": b""}.items():
        (demo / name).write_bytes(content)
    site.files["/demo.zip"] = demo_zip()
    dl.get_weights(demo, url=f"{site.url}/demo.zip")
    assert contents(demo) == weights()


# ---------------------------------------------------------------- a zip fetched by hand


@pytest.mark.parametrize("folder", ["", "demo/", "checkpoints/demo/", "a\\b\\c\\"])
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


def test_get_weights_from_zip_other_epoch_and_without_d_is_taken(
    tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = weights(letters=("G", "V", "E", "A_sync"), epoch="best_12")
    dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(expected)))
    assert contents(demo) == expected
    dl.get_weights(demo)
    assert "the weights are there (best_12: G V E A_sync)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "holds"),
    [
        (weights(letters=("V", "E", "A_sync")), "latest_net_A_sync.pth, latest_net_E.pth, latest_net_V.pth"),
        (weights(letters=("G", "V")) | weights(letters=("E", "A_sync"), epoch="2"), "2_net_A_sync.pth, 2_net_E.pth, "),
        ({"archive/data.pkl": b"x", "archive/version": b"3"}, "archive/data.pkl, archive/version"),
        ({}, "nothing"),
    ],
    ids=["letter missing", "letters of two epochs", "a single checkpoint", "empty"],
)
def test_get_weights_from_zip_without_a_whole_epoch_says_what_it_holds(
    tmp_path: Path, demo: Path, files: dict[str, bytes], holds: str
) -> None:
    with pytest.raises(DownloadError, match=rf"\*_net_<letter>.pth for G, V, E, A_sync; it holds {holds}"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(files)))
    assert not demo.exists()


def test_get_weights_from_zip_same_name_twice_is_refused(tmp_path: Path, demo: Path) -> None:
    doubled = {**weights(), "old/latest_net_G.pth": b"x"}
    with pytest.raises(DownloadError, match=r"holds latest_net_G.pth twice: latest_net_G.pth and old/latest_net_G.pth"):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, zip_bytes(doubled)))


def test_get_weights_from_zip_missing_file_is_named(tmp_path: Path, demo: Path) -> None:
    with pytest.raises(DownloadError, match=r"nowhere.zip: no such file; by hand: open https://drive"):
        dl.get_weights(demo, from_zip=tmp_path / "nowhere.zip")
    assert not demo.exists()


def encrypted(content: bytes) -> bytes:
    marked = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        marked[marked.index(signature) + offset] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "File is not a zip file"),
        (demo_zip()[:-400], "File is not a zip file"),
        (noise(5000, 3), "File is not a zip file"),
        (demo_zip()[3000:], "its beginning is missing"),
        (b"<html><head><title> A page </title>", r"a web page \(A page\) came instead of the file"),
        (QUOTA_PAGE, "Google Drive hands the file out no more"),
        (encrypted(demo_zip()), "File .*latest_net_G.pth.* is encrypted"),
    ],
    ids=["empty", "cut tail", "noise", "cut head", "page", "quota page", "encrypted"],
)
def test_get_weights_from_zip_wrong_file_is_explained_and_kept(
    tmp_path: Path, demo: Path, content: bytes, message: str
) -> None:
    path = write_zip(tmp_path, content)
    with pytest.raises(DownloadError, match=rf"brought.zip: not usable: {message}.*; by hand: open https://drive"):
        dl.get_weights(demo, from_zip=path)
    assert not demo.exists()
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


def test_get_weights_link_in_the_zip_is_written_as_a_plain_file(tmp_path: Path, demo: Path) -> None:
    path = write_zip(tmp_path, demo_zip())
    info = zipfile.ZipInfo("old_net_G.pth")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    dl.get_weights(demo, from_zip=path)
    assert not (demo / "old_net_G.pth").is_symlink()
    assert (demo / "old_net_G.pth").read_bytes() == b"/etc/passwd"


def test_get_weights_understated_size_writes_no_more_than_declared(tmp_path: Path, demo: Path) -> None:
    bomb = {**weights(), "latest_net_G.pth": b"\0" * 10_000_000}
    content = zip_bytes(bomb)
    content = content.replace(struct.pack("<I", 10_000_000), struct.pack("<I", 50))
    assert struct.pack("<I", 10_000_000) not in content
    with pytest.raises(DownloadError, match="Bad CRC-32"), file_size_limit(100_000):
        dl.get_weights(demo, from_zip=write_zip(tmp_path, content))
    assert not demo.exists()


def test_get_weights_whole_files_stay_untouched(tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.mkdir(parents=True)
    for name in ("latest_net_G.pth", "latest_net_D.pth"):
        (demo / name).write_bytes(weights()[name])
    before = (demo / "latest_net_G.pth").stat()
    dl.get_weights(demo, from_zip=write_zip(tmp_path, demo_zip()))
    after = (demo / "latest_net_G.pth").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(demo) == weights()
    output = capsys.readouterr().out
    assert "latest_net_G.pth: was there" in output
    assert "latest_net_V.pth: written" in output


@pytest.mark.parametrize("own", [b"my own", noise(2000, 99)], ids=["other size", "same size"])
def test_get_weights_other_training_in_the_way_is_an_error_and_writes_nothing(
    tmp_path: Path, demo: Path, own: bytes
) -> None:
    demo.mkdir(parents=True)
    (demo / "latest_net_V.pth").write_bytes(own)
    path = write_zip(tmp_path, demo_zip())
    with pytest.raises(DownloadError, match=r"latest_net_V.pth: differs from the zip's; --force replaces it, --name"):
        dl.get_weights(demo, from_zip=path)
    assert contents(demo) == {"latest_net_V.pth": own}
    dl.get_weights(demo, from_zip=path, force=True)
    assert contents(demo) == weights()


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
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED
    assert not (misc / dl.WORK).exists()
    output = capsys.readouterr().out
    assert "CC-BY-4.0" in output
    assert f"{misc}/Input: 2 files written, 0 were there" in output


def test_get_samples_second_run_says_so_and_asks_nothing(
    samples: Site, misc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dl.get_samples(misc, url=samples.url)
    samples.seen.clear()
    capsys.readouterr()
    dl.get_samples(misc, url=samples.url)
    assert samples.seen == []
    assert capsys.readouterr().out == f"{misc}: the sample inputs are there, nothing to do\n"


def test_get_samples_file_gone_fetches_only_its_archive(samples: Site, misc: Path) -> None:
    dl.get_samples(misc, url=samples.url)
    (misc / "Input/517/000001.jpg").unlink()
    samples.seen.clear()
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED
    assert samples.seen == [("/Input.zip", None)]


def test_get_samples_broken_receipt_is_looked_at_again(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / dl.RECEIPT).write_text("{")
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED


def test_get_samples_own_files_stay_and_that_is_said(
    samples: Site, misc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"Input/me/000000.jpg": b"me", "Input/517/000000.jpg": b"changed", "demo.csv": b"my row"}
    for name, content in own.items():
        (misc / name).parent.mkdir(parents=True, exist_ok=True)
        (misc / name).write_bytes(content)
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED | own
    assert "Input: 1 of these files differ from the samples' and are kept; --force" in capsys.readouterr().out
    dl.get_samples(misc, url=samples.url, force=True)
    assert sample_files(misc) == EXPECTED | {"Input/me/000000.jpg": b"me"}


def test_get_samples_rows_of_the_bundled_model_make_way(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / "demo.csv").write_text("misc/Input/synthetic_a 1 None 0 misc/Audio_Source/synthetic_b.wav None 0 None\n")
    dl.get_samples(misc, url=samples.url)
    assert (misc / "demo.csv").read_bytes() == CSV
    assert (misc / "demo_synthetic.csv").read_text().startswith("misc/Input/synthetic_a")


def test_get_samples_bundled_rows_with_the_users_among_them_stay(samples: Site, misc: Path) -> None:
    misc.mkdir()
    rows = "misc/Input/synthetic_a 1 None 0 a.wav None 0 None\nmisc/Input/me 1 None 0 a.wav None 0 None\n"
    (misc / "demo.csv").write_text(rows)
    dl.get_samples(misc, url=samples.url)
    assert (misc / "demo.csv").read_text() == rows


def test_get_samples_broken_off_goes_on_with_the_archive_it_was_at(samples: Site, misc: Path) -> None:
    samples.moods["/Audio_Source.zip"] = ["404"]
    message = r"Audio_Source.zip: the server .*; by hand: open .* save it as .*misc/Audio_Source.zip, then run this"
    with pytest.raises(DownloadError, match=message):
        dl.get_samples(misc, url=samples.url)
    samples.seen.clear()
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED
    assert [path for path, _ in samples.seen] == ["/Audio_Source.zip", "/Mouth_Source.zip", "/demo.csv"]


def test_get_samples_brought_archive_is_used_and_not_deleted(samples: Site, misc: Path) -> None:
    misc.mkdir()
    (misc / "Input.zip").write_bytes(samples.files.pop("/Input.zip"))
    dl.get_samples(misc, url=samples.url)
    assert (misc / "Input/517/000001.jpg").read_bytes() == SAMPLES["Input"]["517/000001.jpg"]
    assert (misc / "Input.zip").exists()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/Input.zip", b"<html><title>Page not found</title>", r"Input.zip: a web page \(Page not found\).*by hand"),
        ("/Input.zip", zip_bytes({}), "holds no files; it is deleted"),
        ("/Input.zip", zip_bytes({"../x.jpg": b"x"}), "leads out of the folder; it is deleted"),
        ("/demo.csv", b"<!doctype html>", r"demo.csv: a web page \(no title\).*save it as .*misc/demo.csv"),
    ],
    ids=["page", "empty", "escape", "csv page"],
)
def test_get_samples_wrong_content_is_not_kept_and_named(
    samples: Site, misc: Path, path: str, content: bytes, message: str
) -> None:
    good, samples.files[path] = samples.files[path], content
    with pytest.raises(DownloadError, match=message):
        dl.get_samples(misc, url=samples.url)
    assert not (misc / dl.WORK).exists()
    samples.files[path] = good
    dl.get_samples(misc, url=samples.url)
    assert sample_files(misc) == EXPECTED


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


@pytest.mark.parametrize("flag", ["--samples_url", "--weights_url"])
@pytest.mark.parametrize("url", ["file:///etc", "ftp://x", "github.com/x", "http://ü.example", "https://a b"])
def test_main_address_that_is_none_names_the_flag(flag: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dl.main([flag, url]) == 2
    assert f"{flag}: must be a plain http:// or https:// address, got {url}" in capsys.readouterr().err


def test_main_without_requests_names_it(
    site: Site, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    assert dl.main(flags) == 1
    assert "error: this Python has no requests; run this with the .venv/bin/python" in capsys.readouterr().err


def test_main_ctrl_c_keeps_the_part_and_exits_130(samples: Site, tmp_path: Path, flags: list[str]) -> None:
    dl.main([*flags, "--from_zip", str(write_zip(tmp_path, demo_zip()))])
    samples.files["/Input.zip"] = PAYLOAD
    samples.moods["/Input.zip"] = ["stall"]
    process = subprocess.Popen([sys.executable, SCRIPT, *flags, "--samples"], stderr=subprocess.PIPE, text=True)
    part = tmp_path / "misc" / dl.WORK / "Input.zip.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= 131_072) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted: what has come is kept" in errors
    assert "Traceback" not in errors
    assert PAYLOAD.startswith(part.read_bytes())
    assert part.stat().st_size >= 131_072


def test_import_needs_neither_torch_nor_requests() -> None:
    code = "import sys, scripts.download_checkpoints; print({'torch', 'requests', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=SCRIPT.parents[1], text=True) == "set()\n"
