"""Fetches the published demo weights and the authors' sample inputs; sizes in bytes, times in seconds.

    python scripts/download_checkpoints.py                                   # weights -> checkpoints/demo
    python scripts/download_checkpoints.py --samples                         # and sample inputs -> misc
    python scripts/download_checkpoints.py --from_zip ~/Downloads/demo.zip   # a zip that a browser has saved

The weights are a zip on Google Drive, the samples lie in the authors' public repository
(Hangz-nju-cuhk/Talking-Face_PC-AVS on GitHub, CC-BY-4.0). When a run breaks off, what has come stays in a folder
`.download` beside the files, and the next run goes on from there. A file gets its final name only when its CRC is
right; the authors published no other checksum.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import itertools
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import INFERENCE_LETTERS, TestConfig
from util.cli import FAILED, Command, print_error
from util.errors import DownloadError, PcavsError
from util.files import atomic_path, make_directory, write_json

WEIGHTS_URL = "https://drive.google.com/file/d/1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_/view"
SAMPLES_URL = "https://github.com/Hangz-nju-cuhk/Talking-Face_PC-AVS/raw/main/misc"
SAMPLE_FOLDERS = ("Input", "Pose_Source", "Audio_Source", "Mouth_Source")
SAMPLES_NOTICE = "sample inputs of PC-AVS (Zhou et al., CVPR 2021), CC-BY-4.0"
WORK = ".download"  # in the folder that is filled: where unfinished files live
RECEIPT = ".samples.json"  # in misc: which archives are unpacked, and into which files
WEIGHTS_BY_HAND = f"by hand: open {WEIGHTS_URL} in a browser, save the zip, then run this again with --from_zip FILE"

TIMEOUT_S = 30.0  # for a connection and between two pieces of the answer
ATTEMPTS = 4  # within one run; the next run resumes
PAUSE_S = 1.0  # after the first failure, doubled after each further one
# Google asks before it sends a large file that it did not scan for viruses; `confirm=t` is the answer in advance.
DRIVE_DOWNLOAD = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="

_BLOCK_BYTES = 1 << 16
_DRIVE_LINK = re.compile(r"https?://(?:drive|docs)\.google\.com/.*(?:/d/|[?&]id=)([\w-]+)")
_WEIGHT_NAME = re.compile(r".+_net_[A-Z](_[a-z]+)?\.pth")
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)")

Members = dict[str, zipfile.ZipInfo]


def fetch(url: str, target: Path, by_hand: str) -> None:
    """Fetches `url`, which may be a link to a file on Google Drive, into `target`; one that is there is whole.

    Bytes that have come stay in `<target>.part` and are not fetched twice.

    Raises DownloadError: offline, refused, a web page in place of the file, cut off or not writable, after the last
    attempt; names the address and ends with `by_hand`.
    """
    import requests

    if target.is_file():
        return
    drive = _DRIVE_LINK.match(url)
    part = target.with_name(target.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_once(DRIVE_DOWNLOAD + drive[1] if drive else url, part)
            os.replace(part, target)
            return
        except requests.RequestException as error:
            reason = _reason(error)
            refused = error.response is not None and error.response.status_code not in (408, 429, 500, 502, 503, 504)
            if refused or attempt == ATTEMPTS:
                kept = f"{part.stat().st_size} bytes are kept, run again to go on, or " if part.exists() else ""
                raise DownloadError(f"{url}: {reason}; {kept}{by_hand}") from error
            print(f"{url}: {reason}; trying again ({attempt + 1} of {ATTEMPTS})", file=sys.stderr)
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        except OSError as error:
            raise DownloadError(f"{part}: cannot be written: {error.strerror or error}") from error


def _fetch_once(url: str, part: Path) -> None:
    """One request: appends to `part` what is missing. Raises the errors of requests, and OSError of the disk."""
    import requests

    from util.log import progress

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # nothing packed, so that offsets are those on disk
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        status, piece = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 and piece == f"bytes */{have}":
            return  # the part is the whole file already
        if have and (status == 416 or (status == 206 and not piece.startswith(f"bytes {have}-"))):
            part.unlink()
            raise requests.RequestException("the kept part does not fit the file, starting over")
        if not response.ok:
            raise requests.HTTPError(f"the server answered {status} {response.reason}", response=response)
        start = have if status == 206 else 0
        blocks = response.iter_content(_BLOCK_BYTES)
        first = next(blocks, b"")
        if not start and (page := _page_reason(first)):
            raise requests.HTTPError(page, response=response)  # before the kept part is given up
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        # the delay keeps the bar from being drawn before the first bytes, which may never come
        bar = progress(
            desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, unit_divisor=1024, delay=1e-6
        )
        with part.open("ab") as sink, bar:
            sink.truncate(start)
            for block in itertools.chain([first], blocks):
                sink.write(block)
                bar.update(len(block))
            if total not in (None, sink.tell()):  # urllib3 looks after this itself only since version 2
                raise requests.exceptions.ChunkedEncodingError


def _reason(error: Exception) -> str:
    """An error of requests in a few words, without the pools and addresses in front of it."""
    import requests

    if "timed out" in str(error):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rsplit(": ", 1)[-1]


def _page_reason(head: bytes) -> str | None:
    """What a web page in place of a file means; None when `head`, the first bytes of a file, begins no page."""
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<head")):
        return None
    text = " ".join(head.decode("utf-8", "replace").split())
    if re.search("google drive.*quota|too many users", text, re.IGNORECASE):
        return "Google Drive hands the file out no more for now (its download quota is used up; try again tomorrow)"
    title = re.search("<title[^>]*> ?(.*?) ?</title>", text, re.IGNORECASE)
    return f"a web page ({title[1] if title else 'no title'}) came instead of the file"


@contextlib.contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Makes `target/.download`, where unfinished files live; what is empty at the end vanishes, `target` too."""
    work = make_directory(target / WORK)
    try:
        yield work
    finally:
        shutil.rmtree(work / "unpacked", ignore_errors=True)
        with contextlib.suppress(OSError):
            work.rmdir()
            target.rmdir()


@contextlib.contextmanager
def _opened(brought: Path | None, name: str, url: str, work: Path, by_hand: str) -> Iterator[zipfile.ZipFile]:
    """The user's zip, or one fetched from `url` into `work`, which is deleted once used or found wrong.

    Raises DownloadError: see fetch; a web page, no zip, damaged, encrypted, a name that leads out, or a full disk.
    """
    path = brought or work / name
    if brought is None:
        fetch(url, path, by_hand)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except PcavsError:
        raise
    except Exception as error:  # damage makes each kind of compression raise something else
        if isinstance(error, OSError) and error.errno is not None:
            raise DownloadError(f"{path}: cannot be unpacked into {work.parent}: {error.strerror}") from error
        with path.open("rb") as source:
            reason = _page_reason(source.read(_BLOCK_BYTES)) or str(error) or "cut off"
        if brought is None:
            path.unlink()
            by_hand = f"it is deleted, run again to fetch it anew, or {by_hand}"
        raise DownloadError(f"{path}: not usable: {reason}; {by_hand}") from error
    if brought is None:
        path.unlink()


def _unpack(archive: zipfile.ZipFile, members: Members, work: Path) -> list[str]:
    """Unpacks files by the names they get, CRC checked; gives those that are not there yet with the same bytes."""
    new = []
    for name, member in members.items():
        member.filename = name
        unpacked, there = Path(archive.extract(member, work / "unpacked")), work.parent / name
        if not (there.is_file() and filecmp.cmp(unpacked, there, shallow=False)):
            new.append(name)
    return new


def _move(names: Iterable[str], work: Path) -> None:
    """Gives unpacked files their final names."""
    for name in names:
        make_directory((work.parent / name).parent)
        with atomic_path(work.parent / name) as temporary:  # beside the final name, which may be on another disk
            shutil.move(work / "unpacked" / name, temporary)


def _safe_files(archive: zipfile.ZipFile) -> Members:
    """The files by name, with `/`; without folders and the clutter of macOS and Windows. Raises BadZipFile."""
    files = {}
    for member in archive.infolist():
        name = PureWindowsPath(member.orig_filename)  # knows both kinds of slashes, and drives
        if name.anchor or ".." in name.parts:
            raise zipfile.BadZipFile(f"refused, the member {member.orig_filename!r} leads out of the folder")
        if member.header_offset < 0:
            raise zipfile.BadZipFile("its beginning is missing")
        if not member.orig_filename.endswith(("/", "\\")) and not _CLUTTER.search(name.as_posix()):
            files[name.as_posix()] = member
    return files


def get_weights(target: Path, *, url: str = WEIGHTS_URL, from_zip: Path | None = None, force: bool = False) -> None:
    """Puts the published weights into `target`, e.g. checkpoints/demo.

    Files that are there and whole stay. A whole file with other bytes than the archive's is an error unless `force`,
    because networks of two trainings do not work together.

    Raises DownloadError: no usable zip, no epoch is whole in it, or such a file is in the way; nothing is changed.
    """
    whole = [path.name for path in target.glob("*_net_*.pth") if _looks_whole(path)]
    if not force and not from_zip and (epochs := _whole_epochs(whole)):
        print(f"{target}: the weights are there ({', '.join(epochs)}: {' '.join(INFERENCE_LETTERS)}), nothing to do")
        return
    if from_zip is not None and not from_zip.is_file():
        raise DownloadError(f"{from_zip}: no such file; {WEIGHTS_BY_HAND}")
    with _work_folder(target) as work, _opened(from_zip, "demo.zip", url, work, WEIGHTS_BY_HAND) as archive:
        members = _weight_members(_safe_files(archive))
        new = _unpack(archive, members, work)
        for name in new:
            if name in whole and not force:
                raise DownloadError(f"{target / name}: differs from the zip's; --force replaces it, --name N keeps it")
        _move(new, work)
    for name in members:
        print(f"{target / name}: {'written' if name in new else 'was there'}")


def _weight_members(files: Members) -> Members:
    """The `<epoch>_net_<letter>.pth` members wherever they lie, by their bare names. Raises BadZipFile."""
    found: Members = {}
    for name, member in files.items():
        base = PurePosixPath(name).name
        if base in found:
            raise zipfile.BadZipFile(f"it holds {base} twice: {found[base].filename} and {name}")
        if _WEIGHT_NAME.fullmatch(base):
            found[base] = member
    if not _whole_epochs(found):
        holds = ", ".join(sorted(found) or sorted(files)[:5]) or "nothing"
        raise zipfile.BadZipFile(
            f"it should hold *_net_<letter>.pth for {', '.join(INFERENCE_LETTERS)}; it holds {holds}"
        )
    return found


def _whole_epochs(names: Iterable[str]) -> list[str]:
    """Epochs of which all needed letters are among the names; sorted."""
    names = set(names)
    epochs = sorted(name.removesuffix("_net_G.pth") for name in names if name.endswith("_net_G.pth"))
    return [epoch for epoch in epochs if names >= {f"{epoch}_net_{letter}.pth" for letter in INFERENCE_LETTERS}]


def _looks_whole(path: Path) -> bool:
    """False for an empty file and for a torch file (a zip since torch 1.6) whose end is missing."""
    with path.open("rb") as source:
        head = source.read(4)
    return bool(head) and (head != b"PK\x03\x04" or zipfile.is_zipfile(path))


def get_samples(misc: Path, *, url: str = SAMPLES_URL, force: bool = False) -> None:
    """Puts the authors' sample inputs and their csv into `misc`; errors as of `get_weights`.

    An archive that lies in `misc` (say, Input.zip saved by a browser) is used instead of fetching. Files of other
    content under the same name stay unless `force`, and that is said.
    """
    receipt: dict[str, list[str]] = {}
    if not force:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it cannot be read
            receipt = json.loads((misc / RECEIPT).read_text(encoding="utf-8"))["files"]
    done = [folder for folder, names in receipt.items() if all((misc / name).is_file() for name in names)]
    csv = misc / "demo.csv"
    csv_there = not force and csv.is_file() and not _is_bundled(csv)
    if len(done) == len(SAMPLE_FOLDERS) and csv_there:
        print(f"{misc}: the sample inputs are there, nothing to do")
        return
    print(f"{misc}: {SAMPLES_NOTICE}, from {url}")
    with _work_folder(misc) as work:
        for folder in SAMPLE_FOLDERS:
            if folder not in done:
                receipt[folder] = _get_sample_folder(misc / folder, f"{url}/{folder}.zip", work, force)
                write_json(misc / RECEIPT, {"source": url, "notice": SAMPLES_NOTICE, "files": receipt})
        if not csv_there:
            fetch(f"{url}/{csv.name}", work / csv.name, _sample_by_hand(f"{url}/{csv.name}", csv))
            if csv.is_file() and _is_bundled(csv):
                os.replace(csv, misc / "demo_synthetic.csv")
            os.replace(work / csv.name, csv)
            print(f"{csv}: written")


def _get_sample_folder(folder: Path, url: str, work: Path, force: bool) -> list[str]:
    """Fetches and unpacks one archive; returns its files, relative to the folder's parent."""
    brought = folder.with_suffix(".zip")
    has_brought = brought.is_file()
    with _opened(brought if has_brought else None, brought.name, url, work, _sample_by_hand(url, brought)) as archive:
        files = _safe_files(archive)
        if not files:
            raise zipfile.BadZipFile("it holds no files")
        for top in ("misc/", f"{folder.name}/"):  # which an archive may or may not repeat
            if all(name.startswith(top) for name in files):
                files = {name.removeprefix(top): member for name, member in files.items()}
        members = {f"{folder.name}/{name}": member for name, member in files.items()}
        new = _unpack(archive, members, work)
        kept = [] if force else [name for name in new if os.path.lexists(folder.parent / name)]
        written = [name for name in new if name not in kept]
        _move(written, work)
    print(f"{folder}: {len(written)} files written, {len(members) - len(written)} were there")
    if kept:
        print(f"{folder}: {len(kept)} of these files differ from the samples' and are kept; --force replaces them")
    return sorted(members)


def _sample_by_hand(url: str, path: Path) -> str:
    return f"by hand: open {url} in a browser, save it as {path}, then run this again"


def _is_bundled(rows: Path) -> bool:
    """Whether a csv is the one that comes with this project, for the bundled model; it makes way for the authors'."""
    lines = [line for line in rows.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return bool(lines) and all(line.startswith("misc/Input/synthetic_") for line in lines)


def _web_address(text: str) -> str:
    if not re.fullmatch("https?://[!-~]+", text):
        raise argparse.ArgumentTypeError(f"must be a plain http:// or https:// address, got {text}")
    return text


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="root of all weights")
    add("--name", default=TestConfig.name, help="folder below --checkpoints_dir (default: %(default)s)")
    add("--from_zip", type=Path, metavar="FILE", help="use this zip instead of fetching the weights")
    add("--samples", action="store_true", help="also fetch the authors' sample inputs (CC-BY-4.0)")
    add("--misc_dir", type=Path, default=Path("misc"), help="where samples go; the rows of demo.csv say misc/...")
    add("--force", action="store_true", help="fetch again and replace what is there")
    add("--weights_url", type=_web_address, default=WEIGHTS_URL, help="another address of the zip with the weights")
    add("--samples_url", type=_web_address, default=SAMPLES_URL, help="another address of the folder with the samples")


def run(options: argparse.Namespace) -> int:
    """Fetches what is asked for; 0 when all of it is there in the end, else 1."""
    target, force = options.checkpoints_dir / options.name, options.force
    jobs = [lambda: get_weights(target, url=options.weights_url, from_zip=options.from_zip, force=force)]
    if options.samples:
        jobs.append(lambda: get_samples(options.misc_dir, url=options.samples_url, force=force))
    failed = False
    for job in jobs:  # the samples are worth having also when Google is out of reach
        try:
            job()
            continue
        except ModuleNotFoundError as error:
            advice = "run this with the .venv/bin/python that experiments/demo_vox.sh makes"
            print_error(f"this Python has no {error.name}; {advice}")
        except (PcavsError, OSError) as error:
            print_error(error)
        failed = True
    return FAILED if failed else 0


main = Command(__doc__, add_flags, run, interrupted="what has come is kept, the same command goes on from there")


if __name__ == "__main__":
    sys.exit(main())
