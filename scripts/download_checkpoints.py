"""Fetches the published demo weights and the authors' sample inputs; sizes in bytes, times in seconds.

    python scripts/download_checkpoints.py                                   # weights -> checkpoints/demo
    python scripts/download_checkpoints.py --samples                         # and sample inputs -> misc
    python scripts/download_checkpoints.py --from_zip ~/Downloads/demo.zip   # a zip that a browser has saved

The weights are a zip on Google Drive (fetched with gdown), the samples lie in the authors' public repository
(Hangz-nju-cuhk/Talking-Face_PC-AVS on GitHub, CC-BY-4.0). What has come stays in a folder `.download` beside the
files when a run breaks off, and the next run goes on from there. A file gets its final name only when its size and
CRC are right. The authors published no checksum, so the SHA-256 printed here is for your own records.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import inspect
import json
import os
import re
import shutil
import stat
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import TestConfig
from util.errors import DownloadError, OptionError, PcavsError
from util.files import atomic_path, make_directory, write_json

DRIVE_ID = "1Zehr3JLIpzdg2S5zZrhIbpYPKF-4gKU_"
DRIVE_URL = f"https://drive.google.com/uc?id={DRIVE_ID}"
DRIVE_PAGE = f"https://drive.google.com/file/d/{DRIVE_ID}/view"
SAMPLES_URL = "https://github.com/Hangz-nju-cuhk/Talking-Face_PC-AVS/raw/main/misc"
SAMPLE_FOLDERS = ("Input", "Pose_Source", "Audio_Source", "Mouth_Source")
SAMPLE_CSV = "demo.csv"
BUNDLED_CSV = "demo_synthetic.csv"  # what that csv is called once the authors' has taken its place
BUNDLED_ROWS = "misc/Input/synthetic_"  # how the rows of the csv begin that comes with the project
SAMPLES_NOTICE = "sample inputs of PC-AVS (Zhou et al., CVPR 2021), CC-BY-4.0"
RECEIPT = ".samples.json"  # in misc: which archives are unpacked, and into which files
NEEDED_LETTERS = ("G", "V", "E", "A_sync")

WEIGHTS_BY_HAND = (
    f"by hand: open {DRIVE_PAGE} in a browser, save the zip, then run this command again with --from_zip FILE"
)

_BLOCK_BYTES = 1 << 18
_OTHER_PYTHON = "run it with the .venv/bin/python that experiments/demo_vox.sh makes"
_RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_WEIGHT_NAME = re.compile(r"(?P<epoch>.+)_net_(?P<letter>[A-Z](?:_[a-z]+)?)\.pth")
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    timeout_s: float = 30.0  # for a connection and between two blocks
    attempts: int = 4  # within one run; the next run resumes
    pause_s: float = 1.0  # after the first failure, doubled after each further one
    first_block_s: float = 240.0  # for the way through Google's pages to the first bytes of the file


class _TransientError(Exception):
    """A failure of one attempt that another attempt may not meet."""


class _ContentError(DownloadError):
    """The archive itself is wrong: kept, it would only fail again."""


# ---------------------------------------------------------------- fetching


def fetch_http(url: str, target: Path, patience: Patience = Patience()) -> None:
    """Fetches `url` into `target`; bytes that have come stay in `<target>.part` and are not fetched twice.

    Does nothing when `target` is there: it was whole when it got its name.

    Raises:
        DownloadError: offline, refused, cut off or not writable, after the last attempt; names the address.
    """
    if target.is_file():
        return
    part = target.with_name(target.name + ".part")
    for attempt in range(1, patience.attempts + 1):
        try:
            _fetch_once(url, part, patience.timeout_s)
            os.replace(part, target)
            return
        except _TransientError as error:
            if attempt == patience.attempts:
                raise DownloadError(f"{url}: {error}; {_kept(part)}") from error
            print(f"{url}: {error}; trying again ({attempt + 1} of {patience.attempts})", file=sys.stderr)
            time.sleep(patience.pause_s * 2 ** (attempt - 1))
        except OSError as error:
            raise DownloadError(f"{part}: cannot be written: {error.strerror or error}; {_kept(part)}") from error


def _fetch_once(url: str, part: Path, timeout_s: float) -> None:
    """One request: appends to `part` what is missing. Raises _TransientError, DownloadError, OSError (of the disk)."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "pcavs-download", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the part is the whole file already
        if error.code == 416 and have:
            part.unlink()
            raise _TransientError("the kept part does not fit the file, starting over") from error
        reason = f"the server answered {error.code} {error.reason}"
        if error.code in _RETRIED_STATUS:
            raise _TransientError(reason) from error
        raise DownloadError(f"{url}: {reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(_network_reason(error)) from error
    with response:
        if response.status == 206 and not _continues_at(response, have):
            part.unlink()
            raise _TransientError("the server sent another piece than asked for, starting over")
        start = have if response.status == 206 else 0
        if have and not start:
            print(f"{url}: the server cannot resume, starting over", file=sys.stderr)
        _save_body(response, part, start)


def _continues_at(response: http.client.HTTPResponse, offset: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _save_body(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    """Writes the body behind the first `start` bytes of `part` and compares the count with the announced one."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    done = start  # counted here, because a bar that is switched off does not
    with part.open("ab") as sink, _byte_bar(part.name.removesuffix(".part"), start, total) as bar:
        sink.truncate(start)
        while True:
            try:
                block = response.read1(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _TransientError(f"broke off after {done} bytes: {_network_reason(error)}") from error
            if not block:
                break
            sink.write(block)
            done += len(block)
            bar.update(len(block))
        if total is not None and done != total:
            raise _TransientError(f"cut off: got {done} of {total} bytes")


def _network_reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return "the server did not answer in time"
    return f"no connection ({reason})" if isinstance(error, urllib.error.URLError) else str(reason) or repr(reason)


def _byte_bar(name: str, start: int, total: int | None) -> Any:
    from tqdm import tqdm

    # the delay keeps it from being drawn before the first bytes, which may never come
    return tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, unit_divisor=1024, delay=1e-6)


def _kept(*parts: Path) -> str:
    size = sum(part.stat().st_size for part in parts if part.exists())
    where = parts[0].parent if parts else ""
    return f"{size} bytes are kept in {where}, run again to go on" if size else "nothing has come"


def fetch_drive(url: str, target: Path, patience: Patience = Patience()) -> None:
    """Fetches a Google Drive file (or any address gdown takes) into `target`, resumed and size-checked by gdown.

    Raises:
        DownloadError: offline, quota used up, a page in place of the file, cut off; says how to do it by hand.
        OptionError: gdown is missing or too old.
    """
    if target.is_file():
        return
    parts = sorted(target.parent.glob(f"{target.name}????????.part"), key=lambda part: part.stat().st_size)
    for smaller in parts[:-1]:  # gdown refuses to choose
        smaller.unlink()
    try:
        try:
            _gdown_once(url, target, patience)
        except _TransientError as error:
            print(f"{url}: {error}; starting over", file=sys.stderr)
            for part in parts[-1:]:
                part.unlink()
            _gdown_once(url, target, patience)
    except (DownloadError, _TransientError) as error:
        kept = _kept(*target.parent.glob(f"{target.name}????????.part"))
        raise DownloadError(f"{url}: {error}; {kept}; or {WEIGHTS_BY_HAND}") from error


def _gdown_once(url: str, target: Path, patience: Patience) -> None:
    """One call of gdown. Raises DownloadError (bare reason), or _TransientError when the kept part does not fit."""
    gdown = _import_gdown()
    import requests

    give_up = threading.Event()  # gdown follows Google's pages for ever when they lead in a circle
    clock = threading.Timer(patience.first_block_s, give_up.set)
    clock.daemon = True
    kept = sum(part.stat().st_size for part in target.parent.glob(f"{target.name}????????.part"))
    with _byte_bar(target.name, kept, None) as bar:

        def progress(done: int, total: int | None) -> None:
            clock.cancel()
            bar.total = total
            bar.update(done - bar.n)

        clock.start()
        try:
            gdown.download(
                url=url,
                output=str(target),
                quiet=True,
                use_cookies=False,  # the file is public; the user's Google session stays out of it
                resume=True,
                progress=progress,
                timeout=patience.timeout_s,
                retries=patience.attempts - 1,
                cancel=give_up,
            )
        except gdown.exceptions.FileURLRetrievalError as error:
            raise DownloadError(_google_reason(str(error))) from error
        except gdown.exceptions.DownloadError as error:
            if kept and "byte range" in str(error):
                raise _TransientError("the kept part cannot be continued") from error
            offline = isinstance(error.__cause__, requests.exceptions.RequestException)
            text = _connection_reason(error.__cause__) if offline else str(error).split("\n")[0]
            raise DownloadError(_one_line(text)) from error
        except gdown.exceptions.DownloadCancelled as error:
            raise DownloadError(f"Google's pages led to no file within {patience.first_block_s:g} s") from error
        except requests.exceptions.HTTPError as error:
            raise DownloadError(f"the server answered {str(error).split(' for url')[0]}") from error
        except requests.exceptions.RequestException as error:
            raise DownloadError(_connection_reason(error)) from error
        except KeyError as error:  # gdown reads headers that not every proxy sends
            raise DownloadError(f"an answer without the header {error}") from error
        except OSError as error:
            raise DownloadError(f"{target}: cannot be written: {error.strerror or error}") from error
        finally:
            clock.cancel()


def _connection_reason(error: BaseException | None) -> str:
    """The last cause of an error of requests, without the pools and addresses in front of it."""
    inner = error.args[0] if error is not None and error.args else error
    reason = str(getattr(inner, "reason", None) or inner)
    if "IncompleteRead" in reason:
        return "cut off"
    return f"no connection ({_one_line(reason.rsplit(': ', 1)[-1])})"


def _import_gdown() -> Any:
    advice = f"pip install 'gdown>=6.4', or {_OTHER_PYTHON}"
    try:
        import gdown
    except ImportError as error:
        raise OptionError(f"the weights lie on Google Drive and gdown is missing: {advice}") from error
    if "cancel" not in inspect.signature(gdown.download).parameters:
        raise OptionError(f"gdown {gdown.__version__} is too old to resume safely: {advice}")
    return gdown


def _google_reason(text: str) -> str:
    """What a page of Google's means, in a few words; `text` is the page's title or gdown's message."""
    lowered = text.lower()
    if "too many users" in lowered or "quota" in lowered:
        return "Google Drive hands the file out no more for now (its download quota is used up; try again tomorrow)"
    if "virus" in lowered:
        return "Google Drive sent its virus-scan warning page instead of the file"
    return f"Google Drive sent a page instead of the file ({_one_line(text)})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------- archives


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[dict[str, zipfile.ZipInfo]]:
    """Opens a zip; yields its files by name, none of which can leave the folder it is unpacked into.

    Names use `/`; folders and the clutter of macOS and Windows are left out.

    Raises:
        DownloadError: no such file, an HTML page, no zip, cut off, encrypted, compressed by other methods than deflate,
            a link, or a name that leads elsewhere.
    """
    if not path.is_file():
        raise DownloadError(f"{path}: no such file")
    _refuse_page(path)
    if not zipfile.is_zipfile(path):
        raise _ContentError(f"{path}: not a zip archive, or cut off ({path.stat().st_size} bytes)")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise _ContentError(f"{path}: not a readable zip archive ({error})") from error
    for member in members:
        _refuse_unsafe(path, member)
    named = {member.filename.replace("\\", "/"): member for member in members}
    yield {name: member for name, member in named.items() if not name.endswith("/") and not _CLUTTER.search(name)}


def _refuse_page(path: Path) -> None:
    """Raises DownloadError when a browser or a tool has saved a web page under the name of the file."""
    with path.open("rb") as source:
        head = source.read(1 << 16)
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<head")):
        return
    text = head.decode("utf-8", "replace")
    titles = re.findall(r"<title[^>]*>(.*?)</title>", text, flags=re.DOTALL | re.IGNORECASE)
    title = _one_line(titles[0]) if titles else "no title"
    google = f"; {_google_reason(title)}" if "google" in text.lower() else ""
    raise _ContentError(f"{path}: a web page ({title}) was saved instead of the file{google}")


def _refuse_unsafe(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name:
        raise _ContentError(f"{path}: refused, the member {member.orig_filename!r} leads out of the folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _ContentError(f"{path}: refused, the member {name!r} is a link or a device")
    if member.flag_bits & 1:
        raise _ContentError(f"{path}: the member {name!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _ContentError(f"{path}: the member {name!r} is compressed by method {member.compress_type}, not deflate")


def weight_members(path: Path, files: Mapping[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The `<epoch>_net_<letter>.pth` members wherever they lie, by their bare names.

    Raises:
        DownloadError: a needed letter is missing in every epoch, or two members share a name.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    letters: dict[str, set[str]] = {}
    for name, member in files.items():
        base = PurePosixPath(name).name
        match = _WEIGHT_NAME.fullmatch(base)
        if match is None:
            continue
        if base in found:
            raise _ContentError(f"{path}: holds {base} twice: {found[base].filename} and {name}")
        found[base] = member
        letters.setdefault(match["epoch"], set()).add(match["letter"])
    if not any(set(NEEDED_LETTERS) <= present for present in letters.values()):
        best = max(letters.values(), key=len, default=set())
        missing = ", ".join(letter for letter in NEEDED_LETTERS if letter not in best)
        holds = ", ".join(sorted(found) or sorted(files)[:5]) or "nothing"
        raise _ContentError(f"{path}: not the demo weights, no *_net_<letter>.pth for {missing}; it holds {holds}")
    return found


def sample_members(path: Path, files: Mapping[str, zipfile.ZipInfo], folder: str) -> dict[str, zipfile.ZipInfo]:
    """The members as `<folder>/...`, whether or not the archive repeats `misc/` or the folder's name on top.

    Raises:
        DownloadError: the archive is empty.
    """
    members = dict(files)
    for top in ("misc/", f"{folder}/"):
        if all(name.startswith(top) for name in members):
            members = {name.removeprefix(top): member for name, member in members.items()}
    if not members:
        raise _ContentError(f"{path}: holds no files")
    return {f"{folder}/{name}": member for name, member in members.items()}


# ---------------------------------------------------------------- installing


def differing(members: Mapping[str, zipfile.ZipInfo], target: Path) -> tuple[list[str], list[str]]:
    """Names that are not in `target` yet, and names that are there with other bytes; in the order of `members`."""
    present = [name for name in members if os.path.lexists(target / name)]
    other = [name for name in present if not _same_bytes(target / name, members[name])]
    there = set(present)
    return [name for name in members if name not in there], other


def _same_bytes(path: Path, member: zipfile.ZipInfo) -> bool:
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    crc = 0
    with path.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
    return crc == member.CRC


def install(path: Path, members: Mapping[str, zipfile.ZipInfo], target: Path, work: Path) -> None:
    """Unpacks `members` of the zip `path` as `target/<name>`: all into `work` first, CRC checked, then renamed.

    Raises:
        DownloadError: damaged, too large for the disk, or not writable; `target` then holds none of the new files
            unless the disk failed between two renames.
    """
    needed = sum(member.file_size for member in members.values())
    free = shutil.disk_usage(target).free
    if needed > free:
        raise DownloadError(f"{path}: unpacked it takes {needed} bytes and {target} has {free} free; make room")
    unpacked = work / "unpack"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for name, member in members.items():
                _unpack_one(archive, member, unpacked / name)
        for name in members:
            make_directory((target / name).parent)
            with atomic_path(target / name) as temporary:  # beside the final name, which may be on another disk
                shutil.move(unpacked / name, temporary)
    except zipfile.BadZipFile as error:
        raise _ContentError(f"{path}: damaged ({error})") from error
    except OSError as error:
        where = error.filename or target
        raise DownloadError(f"{where}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack_one(archive: zipfile.ZipFile, member: zipfile.ZipInfo, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("wb") as sink:
        for block in _blocks(archive, member):
            sink.write(block)
        if sink.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} has {sink.tell()} bytes instead of {member.file_size}")


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of a member; never more than it declares, because zipfile stops there, and then the CRC is wrong.

    A generator, so that errors of reading (BadZipFile, whatever they were) and of writing (OSError) stay apart.
    """
    try:
        with archive.open(member) as source:
            while block := source.read(_BLOCK_BYTES):
                yield block
    except (OSError, EOFError, zlib.error, NotImplementedError) as error:
        raise zipfile.BadZipFile(f"{member.filename}: {_one_line(str(error)) or 'cut off'}") from error


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """Makes `target/.download`, where unfinished files live; what is empty at the end vanishes, `target` too."""
    work = make_directory(target / ".download")
    try:
        yield work
    finally:
        with contextlib.suppress(OSError):
            work.rmdir()
            target.rmdir()


@contextlib.contextmanager
def consumed(path: Path, fetched: bool, by_hand: str) -> Iterator[None]:
    """Deletes a fetched archive once it is used or found wrong; keeps it when only the disk or a conflict is at fault.

    A file that the user brought is never deleted. `by_hand` ends the message about a wrong one.
    """
    try:
        yield
    except _ContentError as error:
        if fetched:
            path.unlink(missing_ok=True)
        again = "it is deleted, run again to fetch it anew, or " if fetched else ""
        raise DownloadError(f"{error}; {again}{by_hand}") from error
    if fetched:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the two things to get


def whole_epochs(folder: Path) -> list[str]:
    """Epochs of which `folder` has all needed letters, none of them empty or visibly cut off; sorted."""
    epochs = sorted(path.name.removesuffix("_net_G.pth") for path in folder.glob("*_net_G.pth"))
    return [e for e in epochs if all(_looks_whole(folder / f"{e}_net_{letter}.pth") for letter in NEEDED_LETTERS)]


def _looks_whole(path: Path) -> bool:
    """False for a missing or empty file and for a torch file (a zip since torch 1.6) whose end is missing."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as source:
        is_torch_zip = source.read(4) == b"PK\x03\x04"
    return not is_torch_zip or zipfile.is_zipfile(path)


def get_weights(
    target: Path,
    *,
    url: str = DRIVE_URL,
    from_zip: Path | None = None,
    force: bool = False,
    patience: Patience = Patience(),
) -> None:
    """Puts the published weights into `target`, e.g. checkpoints/demo.

    Files that are there and whole stay. A whole file with other bytes than the archive's is an error unless `force`,
    because networks of two trainings do not work together.

    Raises:
        DownloadError: see fetch_drive, open_archive, weight_members, install; or such a file is in the way.
    """
    epochs = [] if force or from_zip else whole_epochs(target)
    if epochs:
        print(f"{target}: the weights are there ({', '.join(epochs)}: {' '.join(NEEDED_LETTERS)}), nothing to do")
        return
    if from_zip is not None and not from_zip.is_file():
        raise DownloadError(f"{from_zip}: no such file; {WEIGHTS_BY_HAND}")
    with work_folder(target) as work:
        path = from_zip or work / "demo.zip"
        if from_zip is None:
            fetch_drive(url, path, patience)
        with consumed(path, from_zip is None, WEIGHTS_BY_HAND), open_archive(path) as files:
            members = weight_members(path, files)
            print(f"{path}: {path.stat().st_size} bytes, SHA-256 {sha256_of(path)}")
            missing, other = differing(members, target)
            whole = [name for name in other if _looks_whole(target / name)]
            if whole and not force:
                raise DownloadError(f"{target / whole[0]}: differs from {path}; --force replaces it, --name N keeps it")
            install(path, {name: members[name] for name in missing + other}, target, work)
    for name in members:
        print(f"{target / name}: {'written' if name in missing + other else 'was there'}")


def get_samples(misc: Path, *, url: str = SAMPLES_URL, force: bool = False, patience: Patience = Patience()) -> None:
    """Puts the authors' sample inputs and their csv into `misc`.

    An archive that lies in `misc` (say, Input.zip saved by a browser) is used instead of fetching. Files of other
    content under the same name stay unless `force`, and that is said.

    Raises:
        DownloadError: see fetch_http, open_archive, sample_members, install; says how to do it by hand.
    """
    if not re.fullmatch("https?://[!-~]+", url):
        raise OptionError(f"--samples_url must be a plain http:// or https:// address, got {url}")
    receipt = _read_receipt(misc)
    done = [f for f in SAMPLE_FOLDERS if not force and f in receipt and all((misc / n).is_file() for n in receipt[f])]
    csv_there = not force and (misc / SAMPLE_CSV).is_file() and not _is_bundled(misc / SAMPLE_CSV)
    if len(done) == len(SAMPLE_FOLDERS) and csv_there:
        print(f"{misc}: the sample inputs are there, nothing to do")
        return
    print(f"{misc}: {SAMPLES_NOTICE}, from {url}")
    with work_folder(misc) as work:
        for folder in SAMPLE_FOLDERS:
            if folder not in done:
                receipt[folder] = _get_sample_folder(misc, folder, url, force=force, patience=patience, work=work)
                write_json(misc / RECEIPT, {"source": url, "notice": SAMPLES_NOTICE, "files": receipt})
        if not csv_there:
            _get_sample_csv(misc, url, patience, work)


def _get_sample_folder(misc: Path, folder: str, url: str, *, force: bool, patience: Patience, work: Path) -> list[str]:
    """Fetches and unpacks one archive; returns its files, relative to `misc`."""
    archive = f"{folder}.zip"
    fetched = not (misc / archive).is_file()
    path = work / archive if fetched else misc / archive
    if fetched:
        _fetch_sample(f"{url}/{archive}", path, misc, patience)
    with consumed(path, fetched, _sample_by_hand(f"{url}/{archive}", misc)), open_archive(path) as files:
        members = sample_members(path, files, folder)
        print(f"{path}: {path.stat().st_size} bytes, SHA-256 {sha256_of(path)}")
        missing, other = differing(members, misc)
        wanted = missing + (other if force else [])
        install(path, {name: members[name] for name in wanted}, misc, work)
    print(f"{misc / folder}: {len(wanted)} files written, {len(members) - len(wanted)} were there")
    if other and not force:
        print(f"{misc / other[0]}: differs from the sample ({len(other)} such files), kept; --force replaces them")
    return sorted(members)


def _is_bundled(rows: Path) -> bool:
    """Whether a csv is the one that comes with this project, for the bundled model; it makes way for the authors'."""
    lines = [line for line in rows.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return bool(lines) and all(line.startswith(BUNDLED_ROWS) for line in lines)


def _get_sample_csv(misc: Path, url: str, patience: Patience, work: Path) -> None:
    path = work / SAMPLE_CSV
    _fetch_sample(f"{url}/{SAMPLE_CSV}", path, misc, patience)
    with consumed(path, True, _sample_by_hand(f"{url}/{SAMPLE_CSV}", misc)):
        _refuse_page(path)
        print(f"{path}: {path.stat().st_size} bytes, SHA-256 {sha256_of(path)}")
        try:
            if (misc / SAMPLE_CSV).is_file() and _is_bundled(misc / SAMPLE_CSV):
                os.replace(misc / SAMPLE_CSV, misc / BUNDLED_CSV)
            os.replace(path, misc / SAMPLE_CSV)
        except OSError as error:
            raise DownloadError(f"{misc / SAMPLE_CSV}: cannot be written: {error.strerror or error}") from error
    print(f"{misc / SAMPLE_CSV}: written")


def _fetch_sample(url: str, path: Path, misc: Path, patience: Patience) -> None:
    try:
        fetch_http(url, path, patience)
    except DownloadError as error:
        raise DownloadError(f"{error}; or {_sample_by_hand(url, misc)}") from error


def _sample_by_hand(url: str, misc: Path) -> str:
    return f"by hand: open {url} in a browser, save it as {misc / PurePosixPath(url).name}, then run this command again"


def _read_receipt(misc: Path) -> dict[str, list[str]]:
    """Files of each unpacked archive; empty without a readable receipt, so that everything is looked at again."""
    try:
        files = json.loads((misc / RECEIPT).read_text(encoding="utf-8"))["files"]
        return {folder: [str(name) for name in files[folder]] for folder in SAMPLE_FOLDERS if folder in files}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


# ---------------------------------------------------------------- command line


def build_parser() -> argparse.ArgumentParser:
    """The flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="root of all weights")
    parser.add_argument("--name", default=TestConfig.name, help="folder below --checkpoints_dir (default: %(default)s)")
    parser.add_argument("--from_zip", type=Path, metavar="FILE", help="use this zip instead of fetching the weights")
    parser.add_argument("--samples", action="store_true", help="also fetch the authors' sample inputs (CC-BY-4.0)")
    parser.add_argument(
        "--misc_dir", type=Path, default=Path("misc"), help="where samples go; the rows of demo.csv say misc/..."
    )
    parser.add_argument("--force", action="store_true", help="fetch again and replace what is there")
    parser.add_argument("--weights_url", default=DRIVE_URL, help="another address of the zip with the weights")
    parser.add_argument("--samples_url", default=SAMPLES_URL, help="another address of the folder with the samples")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fetches what is asked for; 0 when all of it is there in the end."""
    options = build_parser().parse_args(argv)
    target = options.checkpoints_dir / options.name
    jobs = [lambda: get_weights(target, url=options.weights_url, from_zip=options.from_zip, force=options.force)]
    if options.samples:
        jobs.append(lambda: get_samples(options.misc_dir, url=options.samples_url, force=options.force))
    failed = False
    try:
        for job in jobs:  # the samples are worth having also when Google is out of reach
            try:
                job()
            except PcavsError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = True
            except ModuleNotFoundError as error:
                print(f"error: this Python has no {error.name}; {_OTHER_PYTHON}", file=sys.stderr)
                failed = True
    except KeyboardInterrupt:
        print("\ninterrupted: what has come is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
