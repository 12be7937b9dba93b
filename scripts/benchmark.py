"""Measures how fast everything is, beside the textbook form of the same networks and beside what the machine can do.

    python scripts/benchmark.py                               # seeded weights of the published size, on the CPU
    python scripts/benchmark.py --name demo --json bench.json # other weights; writes every round's figures
    python scripts/benchmark.py --append                      # adds a dated section to docs/performance.md
    python scripts/benchmark.py --network_file experiments/networks/small.json
    python scripts/benchmark.py --stages G test --repeats 3   # only some
    python scripts/benchmark.py --stages train                # training steps
    python scripts/benchmark.py --device cuda                 # batch 1, 8, 32 in fp32, tf32, fp16, bf16

Contestants of a stage take turns; medians, least times and quartiles are printed. The textbook form is the published
way: per-sample weights in grouped convolutions, the blur apart, identity and both poses encoded and two frames
generated for every frame. It gets the same weights, and the exit code is 1 when its frame differs by more than 1 of
255 in single precision. docs/performance.md says what each row means.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import NetworkConfig, TestConfig
from util.cli import positive_int
from util.errors import MediaError, OptionError, PcavsError
from util.files import write_json, write_text
from util.log import setup_logging

if TYPE_CHECKING:
    from scripts.benchmarks.stages import Bench, Row

# name -> what it measures
STAGES = {
    "ceilings": "matrix products and a convolution, the most the machine can do",
    "audio": "60 s of sound to a spectrogram",
    "images": "a frame from disk to a tensor",
    "V": "identity encoder",
    "E": "pose encoder",
    "A_sync": "speech encoder",
    "G": "generator, and whether its frame equals the textbook's",
    "encoding": "JPEG and mp4",
    "startup": "test.py --help",
    "test": "test.py as a whole, in frames a second; memory; first frame",
    "long": "memory of ten minutes of sound against ten seconds, with a tiny model",
    "growth": "test.py by length, batch, threads and processes",
    "train": "training steps of the joint stage",
    "gpu": "G and the chain by batch and precision on a GPU",
}
_NOT_BY_DEFAULT = ("long", "growth", "train", "gpu")
_ON_CUDA = ("gpu", "test")
_REPORT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the flags."""
    stages = "\n".join(f"  {name:9} {text}" for name, text in STAGES.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nstages:\n{stages}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    weights = parser.add_argument_group("weights")
    weights.add_argument("--name", help="the model; without it seeded random weights are made")
    weights.add_argument(
        "--checkpoints_dir", type=Path, default=TestConfig.checkpoints_dir, help="folder of all models"
    )
    weights.add_argument("--which_epoch", default=TestConfig.which_epoch, help="first part of the weights' file names")
    weights.add_argument("--network_file", type=Path, help="sizes of the seeded networks, as JSON")
    what = parser.add_argument_group("what is measured")
    what.add_argument("--stages", nargs="+", choices=STAGES, help="only these")
    what.add_argument("--train", action="store_true", help="also training steps")
    what.add_argument("--long", action="store_true", help="also ten minutes of sound, with a tiny model")
    what.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    what.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of ours (default fp32)")
    what.add_argument("--repeats", type=positive_int, default=5, help="rounds (default 5)")
    what.add_argument("--frames", type=positive_int, default=50, help="frames test.py makes (default 50)")
    what.add_argument("--batch", type=positive_int, default=4, help="frames a call gets on the CPU (default 4)")
    what.add_argument("--train_batch", type=positive_int, default=2, help="clips of a training step (default 2)")
    what.add_argument("--threads", type=positive_int, help="of torch (default: what torch takes)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write all figures, every round's")
    output.add_argument(
        "--append", type=Path, nargs="?", const=_REPORT, metavar="FILE",
        help="add a dated section to a Markdown file (docs/performance.md)",
    )  # fmt: skip
    return parser.parse_args(argv)


def chosen_stages(args: argparse.Namespace) -> list[str]:
    """Names of the stages in their order."""
    if args.stages:
        wanted = set(args.stages)
    else:
        wanted = set(_ON_CUDA) if args.device == "cuda" else set(STAGES) - set(_NOT_BY_DEFAULT)
    wanted |= {name for name in ("train", "long") if getattr(args, name)}
    return [name for name in STAGES if name in wanted]


def check_args(args: argparse.Namespace, stages: Sequence[str]) -> None:
    """Raises OptionError for flags that contradict each other or the machine."""
    import torch

    if args.name and args.network_file:
        raise OptionError("--network_file is for seeded weights; the sizes of --name come from its network.json")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda: no CUDA device here; leave the flag out to measure the CPU")
    if args.frames < 5:
        raise OptionError(f"--frames must be at least 5 (0.2 s of sound), got {args.frames}")
    if "gpu" in stages and args.device != "cuda":
        raise OptionError("--stages gpu needs --device cuda")


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Measures, prints and writes.

    Returns:
        1 when a frame differs from the textbook's in single precision, else 0.

    Raises:
        PcavsError: wrong flags, missing weights, a run of test.py that failed, a file that cannot be written.
    """
    import torch

    from scripts.benchmarks import stages as benchmarking

    stages = chosen_stages(args)
    check_args(args, stages)
    if args.threads:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of test.py
    about = describe_machine(args.device)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as scratch:
        folder = Path(scratch)
        if args.name:
            directory = args.checkpoints_dir / args.name
            described = directory / "network.json"
            sizes = NetworkConfig.from_file(described) if described.is_file() else NetworkConfig()
        else:
            sizes = NetworkConfig.from_file(args.network_file) if args.network_file else NetworkConfig()
            directory = benchmarking.write_seeded_weights(folder / "weights" / "seeded", sizes)
        bench = benchmarking.Bench(
            directory, args.which_epoch if args.name else "latest", sizes, torch.device(args.device), folder,
            args.repeats, args.frames, args.batch, args.precision, args.train_batch,
        )  # fmt: skip
        print(f"{about['text']}\n{weights_of(args)}\n\n{HEADER}", flush=True)
        with contextlib.closing(bench):
            for name in stages:
                seen, noted = len(bench.rows), len(bench.figures)
                stage_function(name)(bench)
                print("\n".join(table_lines(bench.rows[seen:])), flush=True)
                for figure in bench.figures[noted:]:
                    print(f"    {figure_text(figure)}", flush=True)
    command = " ".join(["python scripts/benchmark.py", *_without_output(argv)])
    if args.json:
        write_json(args.json, as_json(bench, command, about, weights_of(args)))
    if args.append:
        append(args.append, markdown(bench, command, about, weights_of(args)))
    return 0 if is_same(bench) else 1


def stage_function(name: str) -> Callable[[Bench], None]:
    """What measures a stage."""
    from scripts.benchmarks import stages as benchmarking
    from scripts.benchmarks import training as benchmark_training

    functions: dict[str, Callable[[Bench], None]] = {
        "ceilings": benchmarking.stage_ceilings,
        "audio": benchmarking.stage_audio,
        "images": benchmarking.stage_images,
        "V": benchmarking.stage_identity,
        "E": benchmarking.stage_pose,
        "A_sync": benchmarking.stage_speech,
        "G": benchmarking.stage_generator,
        "encoding": benchmarking.stage_encoding,
        "startup": benchmarking.stage_startup,
        "test": benchmarking.stage_end_to_end,
        "long": benchmarking.stage_long,
        "growth": benchmarking.stage_growth,
        "train": benchmark_training.stage_training,
        "gpu": benchmarking.stage_gpu,
    }
    return functions[name]


def is_same(bench: Bench) -> bool:
    """Whether frames in single precision differ from the textbook's by at most 1 of 255."""
    from scripts.benchmarks.stages import SAMENESS

    exact = {f"{SAMENESS}, fp32"} | ({SAMENESS} if bench.precision == "fp32" else set())
    wrong = [figure for figure in bench.figures if figure.name in exact and not figure.value <= 1]
    for figure in wrong:
        print(f"error: {figure_text(figure)}: ours and the textbook form compute different frames", file=sys.stderr)
    return not wrong


# ------------------------------------------------------------------------------------------------------------- report

HEADER = f"{'':62}{'median':>10} {'least':>10} {'quartiles':>21}  unit"


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Rows as text, a line each; behind the first of a stage the others' ratio to it."""
    lines = []
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        head = first.setdefault((row.stage, row.unit), row)
        low, high = (show_seconds(value) for value in row.quartiles)
        label = f"{row.stage}: {row.contestant}"
        line = f"{label:62}{show_seconds(row.median):>10} {show_seconds(min(row.seconds)):>10} {low:>10}-{high:>10}"
        lines.append(f"{line}  {row.unit:12} {'; '.join(_remarks(row, head))}".rstrip())
    return lines


def _remarks(row: Row, first: Row) -> list[str]:
    remarks = [f"{row.median / first.median:.2f} x the first"] if row is not first else []
    if row.unit == "frame":
        remarks.append(f"{1 / row.median:.3g} frames/s")
    if row.macs:
        remarks.append(f"{row.macs / row.median / 1e9:.0f} GMAC/s")
    if row.peak_mib:
        remarks.append(f"{row.peak_mib:.0f} MiB")
    return remarks


def show_seconds(value: float) -> str:
    """Three digits with a fitting unit.

    >>> show_seconds(0.01234)
    '12.3 ms'
    """
    scale, unit = next((pair for pair in ((1, "s"), (1e3, "ms"), (1e6, "us")) if value * pair[0] >= 1), (1e6, "us"))
    number = value * scale
    return f"{number:.{max(0, 2 - len(str(int(number))) + 1)}f} {unit}"


def figure_text(figure: Any) -> str:
    """`name: value unit`."""
    return f"{figure.name}: {figure.value:.3g} {figure.unit}".rstrip()


def weights_of(args: argparse.Namespace) -> str:
    """Which weights are measured, in words."""
    if args.name:
        return f"weights: {args.name}, {args.which_epoch}"
    return f"weights: seeded, sizes of {args.network_file.name if args.network_file else 'the published ones'}"


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, cores, load, versions; `text` says it in a line."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }
    gpu = f"{about['gpu']}, " if about["gpu"] else ""
    about["text"] = (
        f"{gpu}{about['processor']}, {cores} cores, {about['threads']} threads, {about['instructions']}, "
        f"torch {about['torch']}, Python {about['python']}"
    )
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _without_output(argv: Sequence[str]) -> list[str]:
    """The flags that say what is measured."""
    kept: list[str] = []
    skipping = False
    for word in argv:
        if word.startswith("--"):
            skipping = word.split("=")[0] in ("--json", "--append")
        if not skipping:
            kept.append(word)
    return kept


def as_json(bench: Bench, command: str, about: dict[str, Any], weights: str) -> dict[str, Any]:
    """Everything measured, every round's time included."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "weights": weights,
        "machine": about,
        "rows": [row.as_dict() for row in bench.rows],
        "figures": [dataclasses.asdict(figure) for figure in bench.figures],
    }


def markdown(bench: Bench, command: str, about: dict[str, Any], weights: str) -> str:
    """A dated section with the table and the figures."""
    lines = [
        f"### {datetime.date.today().isoformat()}: `{command}`", "", f"{about['text']}; {weights}.", "",
        "| stage | contestant | median | least | quartiles | unit | |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    first: dict[tuple[str, str], Row] = {}
    for row in bench.rows:
        head = first.setdefault((row.stage, row.unit), row)
        low, high = (show_seconds(value) for value in row.quartiles)
        cells = [row.stage, row.contestant, show_seconds(row.median), show_seconds(min(row.seconds)), f"{low}-{high}"]
        lines.append("| " + " | ".join([*cells, row.unit, "; ".join(_remarks(row, head))]) + " |")
    lines += ["", *(f"- {figure_text(figure)}" for figure in bench.figures), ""]
    return "\n".join(lines)


def append(path: Path, section: str) -> None:
    """Adds a section to the end of a file.

    Raises:
        MediaError: the file cannot be read or written.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: cannot be read as text: {error}") from error
    write_text(path, f"{before.rstrip()}\n\n{section}".lstrip())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    setup_logging()
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(argv)
    try:
        return run(args, argv)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
