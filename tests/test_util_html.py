"""The gallery of a results folder, as text and in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from tests.conftest import Workspace
from util.html import write_gallery

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _row(name: str, status: str = "done", **changes: Any) -> dict[str, Any]:
    row = {
        "row": "misc/demo.csv:1", "name": name, "status": status, "frames": 25, "frames_reused": 0, "seconds": 2.0,
        "fps": 12.5, "inputs": {"reference": "misc/a", "mouth": ""}, "outputs": [], "error": None,
        "made_with": "seed 7",
    }  # fmt: skip
    return {**row, **changes}


def test_gallery_links_exist_and_are_relative_for_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "id ü #1 50% & <b>"
    (folder / "Input_").mkdir(parents=True)
    (folder / "Input_" / "Input_0.png").touch()
    (folder / "generated.mp4").touch()
    row = _row(folder.name, outputs=[str(folder / "Input_"), str(folder / "generated.mp4"), str(folder / "gone.mp4")])
    write_gallery(tmp_path, [row], {}, "t")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'(?:src|href|poster)="([^"]+)"', text)]
    assert sorted(links) == [
        f"{folder.name}/Input_/Input_0.png",
        f"{folder.name}/generated.mp4",
    ]
    assert all((tmp_path / link).is_file() for link in links)
    assert "<b>" not in text
    assert "http" not in re.sub(r"<!DOCTYPE[^>]*>", "", text)


def test_gallery_says_what_failed_in_plain_words(tmp_path: Path) -> None:
    rows = [_row("a"), _row("b", "failed", error="x.wav: <no> such file"), _row("c", "interrupted")]
    write_gallery(tmp_path, rows, {"seed": 7}, "t")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "1 of 3 rows done" in text
    assert "This row failed: x.wav: &lt;no&gt; such file" in text
    assert "run the same command with --resume" in text
    assert "seed: 7" in text
    assert text.count("<dd>seed 7</dd>") == 3
    assert "25, 1.00 s" in text


def test_run_ends_with_a_gallery_of_its_rows(workspace: Workspace, capsys: pytest.CaptureFixture) -> None:
    bad, good = workspace.add_inputs("a"), workspace.add_inputs("b")
    bad[4] = "misc/gone.wav"
    workspace.write_csv(bad, good)
    workspace.run("--driving_pose", "--gen_video")
    text = (workspace.results / "index.html").read_text(encoding="utf-8")
    assert "gone.wav: no such audio file" in text
    assert 'src="id_b_pose_b_audio_b/generated.mp4"' in text
    assert "misc/Audio_Source/b.wav" in text
    assert f"look at {workspace.results / 'index.html'}" in capsys.readouterr().out


def _chromium(*flags: str) -> str:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", *flags,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_videos_load_and_nothing_is_wider_than_a_phone(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write_csv(workspace.add_inputs("a", seconds=1.0, mouth_frames=3))
    workspace.run("--driving_pose", "--gen_video")
    page = workspace.results / "index.html"
    probe = """<script>
    const videos = [...document.querySelectorAll('video')], images = [...document.querySelectorAll('img')];
    const ready = v => new Promise(done => { if (v.readyState) done(); v.onloadedmetadata = done; v.onerror = done; });
    Promise.all(videos.map(ready)).then(() => {
      document.title = 'PROBE ' + JSON.stringify({
        videos: videos.map(v => [v.videoWidth, Math.round(v.duration * 25)]),
        images: images.map(i => i.naturalWidth), over: document.documentElement.scrollWidth - innerWidth});
    });</script>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    dom = _chromium(profile, "--window-size=500,900", "--virtual-time-budget=10000", "--dump-dom", page.as_uri())
    (found,) = re.findall(r"PROBE (\{.*?\})", dom)
    assert '"videos":[[28,25],[112,25]]' in found.replace("&quot;", '"')
    assert '"images":[28,28,28,28]' in found.replace("&quot;", '"')
    over = re.search(r'"over":(-?\d+)', found.replace("&quot;", '"'))
    assert over is not None
    assert int(over[1]) <= 0
    shot = tmp_path / "shot.png"
    _chromium(profile, "--window-size=500,900", f"--screenshot={shot}", page.as_uri())
    from data.frames import read_image

    image = read_image(shot)
    assert image.shape[1] == 500
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 50
