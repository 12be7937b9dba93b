"""Makes the sample inputs of the bundled model: synthetic faces, voices, a head that moves, and rows that join them.

    python scripts/make_demo_inputs.py --misc_dir misc

People and voices that were never trained on; the same files every time. Needs flite and festival with its Italian
voice (docs/synthetic.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import Command, add_overwrite_flag
from util.files import claim_output, make_directory, write_bytes

FACES = {"synthetic_anna": 60052, "synthetic_bela": 60011}  # name -> speaker seed
VOICES = {  # name -> a voice that no training hears, and what it says
    "synthetic_voice": (
        "festival lp_diphone",
        "Buongiorno! Il mio viso è disegnato da un computer, e questa voce non è mia.",
    ),
    "synthetic_other_voice": (
        "flite rms",
        "Hello! My face was drawn by a computer, and this voice belongs to somebody else.",
    ),
}
HEAD, HEAD_SPEAKER = "synthetic_head", 60042
POSE_FRAMES = 75  # played forth and back where the sound is longer
JPEG_QUALITY = 85


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--misc_dir", type=Path, default=Path("misc"), help="folder of the inputs")
    add_overwrite_flag(parser.add_argument, "--misc_dir")


def run(args: argparse.Namespace) -> None:
    """Writes faces, voices, head and `demo.csv`; the rows name the files as `misc/...`."""
    files = {args.misc_dir / name: payload for name, payload in make_files().items()}
    for path, payload in files.items():
        is_same = path.is_file() and path.read_bytes() == payload
        claim_output(path, "--misc_dir:", overwrite=args.overwrite or is_same)
    for path, payload in files.items():
        make_directory(path.parent)
        write_bytes(path, payload)


def make_files() -> dict[str, bytes]:
    """Path below the folder of inputs -> content."""
    from data.frames import encode_image
    from data.metadata import format_row
    from data.synthetic.clips import FaceState, make_clip, make_identity, make_scene, render_frame
    from data.synthetic.voice import as_wav, say_clearly

    files = {}
    for name, seed in FACES.items():
        files[f"Input/{name}/000000.jpg"] = encode_image(
            render_frame(make_identity(seed), FaceState(), make_scene(seed))
        )
    for name, (voice, text) in VOICES.items():
        files[f"Audio_Source/{name}.wav"] = as_wav(say_clearly(voice, text).wave)
    for number, frame in enumerate(make_clip(HEAD_SPEAKER, 0, POSE_FRAMES, clean=True).frames):
        files[f"Pose_Source/{HEAD}/{number:06d}.jpg"] = encode_image(frame, quality=JPEG_QUALITY)
    rows = [
        (f"misc/Input/{face}", 1, f"misc/Pose_Source/{HEAD}", POSE_FRAMES, f"misc/Audio_Source/{voice}.wav", "None", 0,
         "None")
        for face, voice in zip(FACES, VOICES, strict=True)
    ]  # fmt: skip
    return files | {"demo.csv": "".join(format_row(row) + "\n" for row in rows).encode()}


main = Command(__doc__, add_flags, run, interrupted="the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
