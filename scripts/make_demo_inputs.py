"""Makes the sample inputs of the bundled model: synthetic faces, a voice, a head that moves, and rows that join them.

    python scripts/make_demo_inputs.py --misc_dir misc

People that were never trained on; the same files every time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.cli import Command
from util.files import make_directory, write_bytes

FACES = {"synthetic_anna": 60003, "synthetic_bela": 60008}  # name -> speaker seed
VOICES = {"synthetic_voice": 60012, "synthetic_other_voice": 60017}
HEAD, HEAD_SPEAKER = "synthetic_head", 60023
FRAMES = 100  # 4 s
POSE_FRAMES = 75  # played forth and back where the sound is longer
JPEG_QUALITY = 85


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--misc_dir", type=Path, default=Path("misc"), help="folder of the inputs")


def run(args: argparse.Namespace) -> None:
    """Writes faces, voices, head and `demo.csv`; the rows name the files as `misc/...`."""
    from data.frames import write_image
    from data.metadata import write_rows
    from data.synthetic.clips import FaceState, make_clip, make_identity, make_scene, render_frame
    from data.synthetic.voice import as_wav

    misc = args.misc_dir
    for name, seed in FACES.items():
        folder = make_directory(misc / "Input" / name)
        write_image(folder / "000000.jpg", render_frame(make_identity(seed), FaceState(), make_scene(seed)))
    voices = make_directory(misc / "Audio_Source")
    for name, seed in VOICES.items():
        write_bytes(voices / f"{name}.wav", as_wav(make_clip(seed, 0, FRAMES).wave))
    folder = make_directory(misc / "Pose_Source" / HEAD)
    for number, frame in enumerate(make_clip(HEAD_SPEAKER, 0, POSE_FRAMES, clean=True).frames):
        write_image(folder / f"{number:06d}.jpg", frame, JPEG_QUALITY)
    rows = [
        (f"misc/Input/{face}", 1, f"misc/Pose_Source/{HEAD}", POSE_FRAMES, f"misc/Audio_Source/{voice}.wav", "None", 0,
         "None")
        for face, voice in zip(FACES, VOICES, strict=True)
    ]  # fmt: skip
    write_rows(misc / "demo.csv", rows)


main = Command(__doc__, add_flags, run, interrupted="the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
