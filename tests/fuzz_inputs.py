#!/usr/bin/env python3
"""Feeds damaged inputs to the readers and commands: each ends well or with one line, in time, memory and peace.

    python tests/fuzz_inputs.py --minutes 20 --seed 1
    python tests/fuzz_inputs.py --only 1:4711            one case again, by seed and number

A case is a number: it chooses the kind of input and draws the damage. Cases run in a process of their own. A fault is
an error that is none of PcavsError or has several lines, a traceback, more than 20 s, more than 3 GB, the death of the
process, or a file of the user that has changed. Exit codes: 0 no fault, 1 faults.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import itertools
import json
import multiprocessing
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MOST_SECONDS = 20.0
MOST_BYTES = 3 * 10**9
_STARTING_S = 120.0  # imports, and the first inputs

# --------------------------------------------------------------------------------------------------------------- damage

_ODD_NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"-1e300",
    b"NaN",
    b"Infinity",
    b"9" * 25,
    b"7" * 5000,
    b"1.5",
    b"00",
    b"2147483648",
)
_ODD_TEXTS = (
    b"\0", b"\xff\xfe\x80", b"../../etc/passwd", b"/dev/zero", b"/dev/stdin", b"A" * 70_000, b"\x1b[31mred", b"\n",
    b'"', b"None", "\u202e\ud7ff\u0301".encode(), b"file:///etc/passwd", b"-version", b"%06d", b" ", b"#",
    b"concat:a|b",
)  # fmt: skip


def damage_bytes(rng: random.Random, payload: bytes) -> bytes:
    """Flips, cuts, doubles, fills or swaps pieces."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 30))):
        start = rng.randrange(min(len(data), rng.choice((64, 512, 10**9))) or 1)
        length = rng.choice((1, 2, 4, 64, len(data) // 3))
        piece = data[start : start + length]
        action = rng.randrange(7)
        if not data:
            break
        if action == 0:
            data[start] ^= 1 << rng.randrange(8)
        elif action == 1:
            del data[start:]
        elif action == 2:
            data[start:start] = piece
        elif action == 3:
            data[start : start + length] = bytes(len(piece))
        elif action == 4:
            data[start : start + length] = rng.randbytes(len(piece))
        elif action == 5:
            del data[start : start + length]
        else:
            data[start : start + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31, 2**32 - 1, 2**24)))
    return bytes(data)


def damage_text(rng: random.Random, payload: bytes) -> bytes:
    """Replaces a word, a number or a line by an odd one."""
    separators = b" ,\n:\t"
    starts = [0, *(i + 1 for i, byte in enumerate(payload) if byte in separators)]
    for _ in range(rng.choice((1, 1, 2, 6))):
        start = rng.choice(starts)
        end = next((i for i in range(start, len(payload)) if payload[i] in separators), len(payload))
        payload = payload[:start] + rng.choice((*_ODD_NUMBERS, *_ODD_TEXTS, b"")) + payload[end:]
        starts = [i for i in starts if i <= len(payload)] or [0]
    return payload


def damage_json(rng: random.Random, payload: bytes) -> bytes:
    """Gives values other types and sizes, drops and adds names."""
    value = json.loads(payload)
    odd: tuple[Any, ...] = (
        None, True, -1, 0, 10**30, 1.5, 1e300, float("nan"), float("inf"), "", "x" * 10**5, "\0", "\ud800", "/dev/zero",
        [], {}, [[[]]], [1, "a", None], {"a": {"b": []}}, "\x1b[2J", 2**63, "-1", [0] * 10_000,
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 4))):
        holder, key = None, None
        node = value
        while isinstance(node, (dict, list)) and node and (holder is None or rng.random() < 0.7):
            holder, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = node[key]
        if holder is None:
            break
        if rng.random() < 0.15:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(odd))
    text = json.dumps(value)
    if rng.random() < 0.05:
        depth = rng.choice((100, 5000, 200_000))
        text = "[" * depth + text + "]" * depth
    if rng.random() < 0.1:
        text = text.replace("1", rng.choice(("1e999", "9" * 6000, "-1")), 1)
    return text.encode("utf-8", "surrogatepass")


def damage_arrays(rng: random.Random, payload: bytes) -> bytes:
    """An .npz or .npy whose arrays have other shapes, types and values, or damaged bytes."""
    import numpy as np

    if rng.random() < 0.4:
        return damage_bytes(rng, payload)

    def odd(array: Any) -> Any:
        changes: tuple[Callable[[], Any], ...] = (
            lambda: array[:0], lambda: np.array(array, dtype=object), lambda: array.astype(str),
            lambda: np.repeat(array[None], 3, 0), lambda: np.full(array.shape, np.nan), lambda: array.reshape(-1),
            lambda: np.full(array.shape, 1e300), lambda: np.array(7), lambda: array.astype(complex),
        )  # fmt: skip
        try:
            return rng.choice(changes)()
        except (ValueError, TypeError, IndexError):
            return np.array("x")

    buffer = io.BytesIO()
    loaded = np.load(io.BytesIO(payload), allow_pickle=True)
    if isinstance(loaded, np.ndarray):
        np.save(buffer, odd(loaded), allow_pickle=True)
        return buffer.getvalue()
    arrays = {name: loaded[name] for name in loaded.files}
    name = rng.choice(list(arrays))
    arrays[name] = odd(arrays[name])
    if rng.random() < 0.3:
        del arrays[rng.choice(list(arrays))]
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def damage_weights(rng: random.Random, payload: bytes) -> bytes:
    """A state dict with other tensors, or damaged bytes."""
    import torch

    if rng.random() < 0.5:
        return damage_bytes(rng, payload)
    state = dict(torch.load(io.BytesIO(payload), weights_only=True))
    name = rng.choice(list(state))
    tensor = state[name]
    odd: tuple[Any, ...] = (
        tensor.to(torch.int64), tensor.bool(), tensor.to(torch.complex64), tensor[None], tensor.flatten()[:0],
        torch.full_like(tensor, float("nan"), dtype=torch.float32), "text", None, 5, {"a": tensor},
        tensor.to("meta"), tensor.to_sparse(),
        tensor.expand(1000, *tensor.shape), tensor.double(),
    )  # fmt: skip
    state[rng.choice((name, name, 7, "x" * 10_000, "\0", "\x1b[1m"))] = rng.choice(odd)
    buffer = io.BytesIO()
    torch.save(rng.choice((state, state, list(state), {"model": state})), buffer)
    return buffer.getvalue()


# -------------------------------------------------------------------------------------------------------------- targets


class Place:
    """Whole inputs of every kind, made once, and the damaged one; what is written goes to `out`."""

    def __init__(self, root: Path) -> None:
        import cv2
        import numpy as np

        from data.synthetic.clips import make_clip, write_clip
        from tests.conftest import Workspace, voice, write_frames, write_tiny_model, write_wav
        from tests.face_factory import template_landmarks
        from util.ffmpeg import run_ffmpeg

        self.root, self.whole, self.out = root, root / "whole", root / "out"
        work = self.work = Workspace(root / "workspace")
        work.misc.mkdir(parents=True)
        write_tiny_model(work.root / "checkpoints" / "tiny")
        self.whole.mkdir()
        work.write_csv([str(work.root / f) if f.startswith("misc") else f for f in work.add_inputs("a", 0.4)])
        assert work.run("--gen_video", "--driving_pose") == 0
        result = next(path for path in work.results.iterdir() if path.is_dir())
        landmarks = np.repeat(template_landmarks()[None], 5, 0)
        np.savez(self.whole / "landmarks.npz", landmarks=landmarks)
        np.save(self.whole / "mel.npy", np.random.default_rng(0).random((47, 80)).astype(np.float32))
        write_clip(make_clip(0, 0, 12), self.whole / "clip.mp4")
        write_wav(self.whole / "a.wav", voice(0.5))
        run_ffmpeg(["-i", self.whole / "a.wav", self.whole / "a.flac"], "encoding")
        write_frames(self.whole / "pictures", 2)
        write_frames(self.whole / "align", 5)
        image = cv2.imread(str(self.whole / "pictures" / "000000.jpg"))
        for suffix in (".png", ".webp", ".bmp", ".tiff"):
            cv2.imwrite(str(self.whole / f"a{suffix}"), image)
        from PIL import Image

        frames = [Image.fromarray(np.roll(image[..., ::-1], 9 * n, 1)) for n in range(3)]
        frames[0].save(self.whole / "a.gif", save_all=True, append_images=frames[1:], duration=80)
        with zipfile.ZipFile(self.whole / "weights.zip", "w") as archive:
            for path in (work.root / "checkpoints" / "tiny").glob("*.pth"):
                archive.write(path, f"demo/{path.name}")
        clip = self.whole / "clip.mp4"
        (self.whole / "clips.csv").write_text(f"path,audio,num_frames,speaker,label\n{clip},,12,a,0\n{clip},,12,b,1\n")
        (self.whole / "jobs.txt").write_text(f"{self.whole / 'a.png'} {clip} {clip}\n")
        (self.whole / "pairs.csv").write_text(f"name,generated,real\na,{clip},{clip}\n")
        (self.whole / "shards.json").write_text(json.dumps({"shards": {"a.tar": 3}, "num_speakers": 2, "made_of": {}}))
        shutil.copy(result / "clip.json", self.whole / "clip.json")
        for name in ("report.json", "options.json"):
            shutil.copy(work.results / name, self.whole / name)
        self._write_record()
        self.inputs = sorted(
            p for folder in (self.whole, work.misc, work.root / "checkpoints") for p in folder.rglob("*")
        )
        self.state = self.digest()

    def _write_record(self) -> None:
        from data.faces.align_clip import align_source
        from options.config import AlignOptions

        config = AlignOptions(landmarks_file=self.whole / "landmarks.npz")
        folder = self.root / "aligned"
        align_source(self.whole / "align", folder, config)
        shutil.copy(folder / "alignment.json", self.whole / "alignment.json")

    def digest(self) -> str:
        """Of every file that the user has."""
        sums = hashlib.sha256()
        for path in self.inputs:
            if path.is_file():
                sums.update(str(path).encode() + path.read_bytes())
        return sums.hexdigest()


def _media(place: Place, path: Path) -> None:
    from data.media import Cut, extract_frames, extract_sound, inspect

    media = inspect(path)
    (place.out / "frames").mkdir()
    if media.has_frames:
        extract_frames(media, place.out / "frames", Cut())
    if media.has_sound:
        extract_sound(media, place.out / "a.wav", Cut())


def _clip(place: Place, path: Path) -> None:
    from data.clip_check import check_clip
    from data.video_reader import open_source, open_video

    check_clip(path, path.parent, "full")
    list(itertools.islice(open_video(path, resample=True).frames(), 30))
    list(open_source(path).frames(stop=30))


def _sound(place: Place, path: Path) -> None:
    from data.audio import log_mel, scan_audio
    from data.clip_reader import load_sound

    scan_audio(path)
    log_mel(load_sound(path))


def _picture(place: Place, path: Path) -> None:
    from data.frames import crop_template, read_image

    crop_template(read_image(path))


def _command(place: Place, name: str, *flags: object) -> None:
    """test.py; says what it said if that was more than errors of one line."""
    _quietly(lambda: place.work.run("--results_dir", place.out / "results", "--driving_pose", *flags), name)


def _quietly(run: Callable[[], int], name: str) -> None:
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard):
        code = run()
    said = heard.getvalue()
    if code not in (0, 1, 2) or "Traceback" in said or "please report it" in said or "\x1b[" in said:
        raise AssertionError(f"{name}: exit code {code}: {said[-3000:]}")


def _rows(place: Place, path: Path) -> None:
    _command(place, "rows", "--meta_path_vox", path)


def _weights(place: Place, path: Path) -> None:
    from models.loading import load_networks
    from tests.conftest import TINY

    folder = place.out / "model"
    shutil.copytree(place.work.root / "checkpoints" / "tiny", folder)
    shutil.copy(path, folder / "latest_net_V.pth")
    load_networks(folder, "latest", TINY)


def _network(place: Place, path: Path) -> None:
    from models.av_model import AvModel

    folder = place.out / "tiny"
    shutil.copytree(place.work.root / "checkpoints" / "tiny", folder)
    shutil.copy(path, folder / "network.json")
    AvModel.from_checkpoints(folder)


def _options(place: Place, path: Path) -> None:
    _command(place, "options", "--load_from_opt_file", path, "--how_many", 1)


def _note(place: Place, path: Path) -> None:
    from data.results import find_columns, noted_audio, read_note, video_comment

    shutil.copy(path, place.out / "clip.json")
    read_note(place.out)
    video_comment(place.out)
    find_columns(place.out)
    noted_audio(place.out)


def _report(place: Place, path: Path) -> None:
    from data.video_pairs import pairs_from_results

    shutil.copytree(place.work.results, place.out / "results")
    shutil.copy(path, place.out / "results" / "report.json")
    pairs_from_results(place.out / "results")
    _command(place, "report", "--resume")


def _alignment(place: Place, path: Path) -> None:
    from data.faces.paste_result import paste_result

    result = next(p for p in place.work.results.iterdir() if p.is_dir())
    shutil.copytree(result, place.out / "result")
    paste_result(place.out / "result", place.out / "pasted.mp4", alignment=path, background=place.whole / "align")


def _landmarks(place: Place, path: Path) -> None:
    from data.faces.align_clip import align_source
    from options.config import AlignOptions

    align_source(place.whole / "align", place.out / "aligned", AlignOptions(landmarks_file=path))


def _truth(place: Place, path: Path) -> None:
    from data.synthetic.clips import read_truth

    read_truth(path)


def _spectrogram(place: Place, path: Path) -> None:
    from data.voxtest_dataset import load_spectrogram

    load_spectrogram(path, 6400)


def _list(place: Place, path: Path) -> None:
    from data.clip_list import PackedRecords, num_speakers, read_list

    records = read_list(path)
    assert num_speakers(records) > 0
    assert PackedRecords(records)[0].num_frames == records[0].num_frames


def _jobs(place: Place, path: Path) -> None:
    from scripts.prepare_testing_files import main

    flags = ["--batch", str(path), "--csv_path", str(place.out / "a.csv"), "--dir_path", str(place.out / "misc")]
    _quietly(lambda: main(flags), "jobs")


def _pairs(place: Place, path: Path) -> None:
    from data.video_pairs import open_pair, pairs_from_csv

    for pair in pairs_from_csv(path)[0]:
        open_pair(pair)


def _shards(place: Place, path: Path) -> None:
    from data.webdataset_shards import read_index

    shutil.copy(path, place.out / "shards.json")
    read_index(place.out)


def _zip(place: Place, path: Path) -> None:
    from scripts.download_checkpoints import get_weights

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        get_weights(place.out / "demo", from_zip=path)


Damage = Callable[[random.Random, bytes], bytes]
# (input, damages, what reads it, how often)
TARGETS: tuple[tuple[str, tuple[Damage, ...], Callable[[Place, Path], None], int], ...] = (
    ("../workspace/misc/demo.csv", (damage_text, damage_text, damage_bytes), _rows, 2),
    ("options.json", (damage_json, damage_json, damage_bytes), _options, 2),
    ("../workspace/checkpoints/tiny/network.json", (damage_json, damage_json, damage_bytes), _network, 3),
    ("clip.json", (damage_json, damage_json, damage_bytes), _note, 3),
    ("report.json", (damage_json, damage_json, damage_bytes), _report, 1),
    ("alignment.json", (damage_json, damage_json, damage_bytes), _alignment, 2),
    ("landmarks.npz", (damage_arrays,), _landmarks, 2),
    ("clip.npz", (damage_arrays,), _truth, 2),
    ("mel.npy", (damage_arrays,), _spectrogram, 2),
    ("clips.csv", (damage_text, damage_bytes), _list, 3),
    ("jobs.txt", (damage_text, damage_bytes), _jobs, 1),
    ("pairs.csv", (damage_text, damage_bytes), _pairs, 2),
    ("shards.json", (damage_json, damage_bytes), _shards, 2),
    ("../workspace/checkpoints/tiny/latest_net_V.pth", (damage_weights,), _weights, 4),
    ("weights.zip", (damage_bytes,), _zip, 2),
    ("pictures/000000.jpg", (damage_bytes,), _media, 2),
    ("pictures/000000.jpg", (damage_bytes,), _picture, 2),
    *((f"a.{suffix}", (damage_bytes,), _media, 1) for suffix in ("png", "webp", "bmp", "tiff", "gif")),
    ("a.wav", (damage_bytes,), _media, 2),
    ("a.wav", (damage_bytes,), _sound, 2),
    ("a.flac", (damage_bytes,), _sound, 2),
    ("clip.mp4", (damage_bytes,), _media, 2),
    ("clip.mp4", (damage_bytes,), _clip, 3),
)


def run_case(place: Place, seed: int, number: int) -> tuple[str, str]:
    """Runs a case in this process; returns its kind, and the fault ("" where there is none)."""
    from util.errors import PcavsError

    rng = random.Random(f"{seed}:{number}")
    name, damages, read, _ = rng.choices(TARGETS, [target[3] for target in TARGETS])[0]
    kind = f"{Path(name).name} by {read.__name__.strip('_')}"
    whole = place.whole / name
    payload = rng.choice(damages)(rng, whole.read_bytes())
    shutil.rmtree(place.out, ignore_errors=True)
    place.out.mkdir()
    damaged = place.root / "damaged" / Path(name).name
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(payload)
    fault = ""
    try:
        read(place, damaged)
    except PcavsError as error:
        if "\n" in str(error):
            fault = f"an error of several lines: {error}"
    except BaseException:
        fault = traceback.format_exc()
        fault = fault if len(fault) < 4000 else f"{fault[:2000]} ... {fault[-1000:]}"
    if damaged.read_bytes() != payload or place.digest() != place.state:
        fault += "\na file of the user has changed"
    if (peak := 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) > MOST_BYTES:
        fault += f"\n{peak / 1e9:.1f} GB of memory"
    return kind, fault


def _serve(pipe: Any, root: Path, seed: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sys.stdout = sys.stderr = Path("/dev/null").open("w")  # noqa: SIM115 (until the process ends)
    place = Place(root)
    pipe.send(("", ""))
    while True:
        number = pipe.recv()
        pipe.send(run_case(place, seed, number))


class Worker:
    """A process that runs cases; started anew after one that hangs or dies."""

    def __init__(self, seed: int, root: Path) -> None:
        self._seed, self._root = seed, root
        self._process: Any = None

    def run(self, number: int) -> tuple[str, str]:
        """Kind and fault of a case."""
        if self._process is None:
            self.start()
        self._pipe.send(number)
        try:
            if self._pipe.poll(MOST_SECONDS):
                kind, fault = self._pipe.recv()
                if "GB of memory" in fault:
                    self.stop()
                return kind, fault
            fault = f"hangs for more than {MOST_SECONDS:g} s"
        except EOFError:
            fault = "the process died"
        self.stop()
        return "?", fault

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def start(self) -> None:
        """Starts the process, which makes its inputs."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        folder = Path(tempfile.mkdtemp(dir=self._root))
        self._process = context.Process(target=_serve, args=(theirs, folder, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_STARTING_S):
            raise TimeoutError("the inputs cannot be made")
        self._pipe.recv()


def fuzz(seed: int, seconds: float, first: int = 0, count: int = 10**9) -> tuple[Counter[str], dict[int, str]]:
    """Runs cases for a time; returns how many of each kind, and the faults by number."""
    done: Counter[str] = Counter()
    faults: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        worker = Worker(seed, Path(folder))
        try:
            worker.start()
            end = time.monotonic() + seconds
            for number in range(first, first + count):
                if time.monotonic() > end and done:
                    break
                kind, fault = worker.run(number)
                done[kind] += 1
                if fault:
                    faults[number] = f"{kind}: {fault}"
                    print(f"case {seed}:{number}: {faults[number]}\n", flush=True)
        finally:
            worker.stop()
    return done, faults


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of all damage")
    parser.add_argument("--only", metavar="SEED:NUMBER", help="one case")
    args = parser.parse_args()
    if args.only:
        seed, number = map(int, args.only.split(":"))
        done, faults = fuzz(seed, MOST_SECONDS, number, 1)
    else:
        done, faults = fuzz(args.seed, 60 * args.minutes)
    for kind, count in sorted(done.items()):
        print(f"{count:6} {kind}")
    print(f"{sum(done.values())} cases, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
