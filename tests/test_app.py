"""app.py without a browser: jobs that outlive the page, command lines, what is refused, and the API by a script."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import app
from scripts.page import jobs as jobs_module
from scripts.page.commands import (
    HEADS,
    OWN_POSE,
    PROGRAMME,
    Places,
    TalkSettings,
    compare_commands,
    crop_commands,
    models,
    personal_commands,
    require_model_name,
    talk_commands,
)
from scripts.page.guard import Guard
from scripts.page.jobs import (
    FAILED,
    FINISHED,
    LOST,
    MOST_WAITING,
    RUNNING,
    STOPPED,
    WAITING,
    Job,
    JobQueue,
    keep_upload,
)
from scripts.page.progress import show_job, show_queue
from tests.conftest import write_tiny_model
from util.errors import MediaError, OptionError, PcavsError
from util.ffmpeg import probe

ROOT = Path(__file__).resolve().parents[1]
NO_GRADIO = importlib.util.find_spec("gradio") is None
needs_gradio = pytest.mark.skipif(NO_GRADIO, reason="the page needs gradio: pip install -r requirements-app.txt")


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Jobs can be interrupted, as those of app.py, even where a shell in the background lets pytest ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_until(happened: Callable[[], Any], timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def python_line(code: str) -> str:
    return shlex.join(["python", "-c", code])


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    made = JobQueue(tmp_path / "wörk 1")
    made.start()
    yield made
    made.close()
    for job in made.jobs():
        made.cancel(job)


def add(queue: JobQueue, code: str, title: str = "a job") -> Job:
    job = Job(queue.new_folder(), "talk", title, (python_line(code),), time.time())
    return queue.add(job)


def test_jobs_run_one_after_the_other_in_their_order(queue: JobQueue, tmp_path: Path) -> None:
    note = tmp_path / "note"
    code = f"import time; f = open({str(note)!r}, 'a'); f.write('%s'); f.flush(); time.sleep(0.2); f.write('%s')"
    made = [add(queue, code % (letter, letter)) for letter in "abc"]
    wait_until(lambda: all(job.state == FINISHED for job in made))
    assert note.read_text() == "aabbcc"


def test_a_failure_is_the_sentence_that_the_command_printed(queue: JobQueue) -> None:
    code = "import sys, os; print('error: ' + sys.argv[1] + '/me.jpg: no face\\x1b[0m', file=sys.stderr); sys.exit(1)"
    folder = queue.new_folder()
    job = queue.add(Job(folder, "talk", "t", (f"{python_line(code)} {shlex.quote(str(folder / 'input'))}",), 0.0))
    wait_until(lambda: job.state == FAILED)
    assert job.failure() == "me.jpg: no face\\x1b[0m"
    broken = add(queue, "1 / 0")
    wait_until(lambda: broken.state == FAILED)
    assert broken.failure() == "It failed. The last it said: ZeroDivisionError: division by zero"


def test_commands_behind_one_that_failed_do_not_run(queue: JobQueue, tmp_path: Path) -> None:
    lines = (python_line("import sys; sys.exit(2)"), python_line(f"open({str(tmp_path / 'later')!r}, 'w')"))
    job = queue.add(Job(queue.new_folder(), "talk", "t", lines, 0.0))
    wait_until(lambda: job.state == FAILED)
    assert job.exit_code == 2
    assert not (tmp_path / "later").exists()


def test_cancel_is_ctrl_c_for_a_running_job_and_a_waiting_one_never_begins(queue: JobQueue) -> None:
    code = "import time; print(1, flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(130)"
    running, waiting = add(queue, code), add(queue, "print('never')")
    wait_until(lambda: "1" in running.log)
    assert (running.state, waiting.state, queue.place(waiting)) == (RUNNING, WAITING, 1)
    queue.cancel(waiting)
    queue.cancel(running)
    wait_until(lambda: running.state == STOPPED)
    assert (waiting.state, waiting.log) == (STOPPED, "")
    assert running.failure() == "Stopped. What was finished is kept."


def test_killed_page_loses_no_job(tmp_path: Path) -> None:
    """One job runs and one waits when the page is killed: the next page finds the first, and starts the second."""
    work, gate = tmp_path / "work", tmp_path / "gate"
    code = (
        "import sys, time, pathlib\n"
        "from scripts.page.jobs import Job, JobQueue\n"
        f"queue = JobQueue(pathlib.Path({str(work)!r}))\n"
        "for line in sys.argv[1:]: queue.add(Job(queue.new_folder(), 'talk', 't', (line,), time.time()))\n"
        "queue.start()\n"
        "time.sleep(600)\n"
    )
    held = python_line(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\nprint('through')")
    page = subprocess.Popen([sys.executable, "-c", code, held, python_line("print('second')")], cwd=ROOT)
    later = JobQueue(work)
    wait_until(lambda: later.running() is not None)
    page.kill()
    page.wait()
    first, second = sorted(later.jobs(), key=lambda job: job.id)
    assert (first.state, second.state) == (RUNNING, WAITING)
    later.start()
    gate.touch()
    wait_until(lambda: second.state == FINISHED)
    later.close()
    assert (first.state, first.log, second.log) == (FINISHED, "through\n", "second\n")


def test_job_whose_processes_were_killed_is_told_from_one_that_runs(queue: JobQueue) -> None:
    job = add(queue, "import time; print('begun', flush=True); time.sleep(60)")
    wait_until(lambda: "begun" in job.log)
    os.killpg(int((job.folder / "process").read_text()), signal.SIGKILL)
    wait_until(lambda: job.state == LOST)
    assert "ended from outside" in job.failure()


def test_no_more_than_so_many_jobs_wait(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)  # not started: nothing leaves it
    for _ in range(MOST_WAITING):
        add(queue, "")
    with pytest.raises(PcavsError, match=f"^{MOST_WAITING} jobs wait already"):
        add(queue, "")
    assert len(queue.jobs()) == MOST_WAITING


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("me.jpg", "me.jpg"),
        ("<img src=x onerror=alert(1)>.png", "_img_src_x_onerror_alert_1__.png"),
        ("a" * 240 + ".JPG", "a" * 40 + ".jpg"),
        ("ü" * 100 + ".wav", "ü" * 20 + ".wav"),
        ("....", "____"),
        ("$(touch x); rm -rf.sh;", "__touch_x___rm_-rf"),
    ],
)
def test_upload_gets_a_short_and_harmless_name(tmp_path: Path, name: str, kept: str) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    source = tmp_path / name
    source.write_bytes(b"x")
    path = keep_upload(source, folder)
    assert (path.name, path.parent) == (kept, folder)
    assert path.read_bytes() == b"x"


def test_upload_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^me\.jpg: the upload is gone"):
        keep_upload(tmp_path / "me.jpg", tmp_path)


def test_uploads_go_after_a_day_and_results_stay(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    done, waiting = add(queue, ""), add(queue, "")
    (done.folder / "exit").write_text("0\n")
    done.results.mkdir()
    old = time.time() - jobs_module.KEPT_S - 60
    uploads = [tmp_path / "uploads" / name for name in ("old", "new")]
    for folder in uploads:
        folder.mkdir()
        (folder / "me.jpg").write_bytes(b"x")
    left = tmp_path / "uploads" / "begun"
    left.write_bytes(b"x")
    for path in (uploads[0], left, done.folder, waiting.folder):
        os.utime(path, (old, old))
    queue._sweep()
    assert [path.exists() for path in uploads] == [False, True]
    assert not left.exists()
    assert (done.input.exists(), done.results.exists(), waiting.input.exists()) == (False, True, True)


class ParsedError(BaseException):
    """The command line was understood."""


def understood(line: str, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What the parser of a command makes of a line that the page would run."""
    python, script, *arguments = shlex.split(line)
    assert python == "python"
    found: list[argparse.Namespace] = []
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *given: Any) -> None:
        found.append(parse(self, *given))
        raise ParsedError

    with monkeypatch.context() as patch, pytest.raises(ParsedError):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).main(arguments)
    return found[0]


@pytest.mark.parametrize("head", HEADS)
def test_talk_commands_are_understood(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TalkSettings("me", head, "0 yaw=0;  1 yaw=20", "auto", "rest", 0.5, 1.5, 3, paste=True)
    places = Places(tmp_path, tmp_path / "models", "-1")
    files = [tmp_path / f"a {name}" for name in ("p.jpg", "v.wav", "t.mp4")]
    prepare, test, paste = (
        understood(line, monkeypatch) for line in talk_commands(places, tmp_path / "j", *files, settings)
    )
    assert (prepare.src_input_path, prepare.align, prepare.seed, prepare.duration) == (files[0], "all", 3, 600)
    assert (test.name, test.checkpoints_dir, test.mouth_scale, test.silence) == ("me", tmp_path / "models", 1.5, "rest")
    assert (test.driving_pose, test.pose_scale) == ((False, 1.0) if head == OWN_POSE else (True, 0.5))
    assert paste.result == [tmp_path / "j" / "results" / "id_*"]
    if head == PROGRAMME:
        assert str(prepare.src_pose_path) == "pose:0 yaw=0; 1 yaw=20"


@pytest.mark.parametrize("words", ["", "nod", "/etc/passwd", "like:a.mp4 yaw=0", "0 yaw=0; ../x=1", "LICENSE"])
def test_programme_that_could_name_a_file_is_refused(tmp_path: Path, words: str) -> None:
    settings = TalkSettings("me", PROGRAMME, words)
    with pytest.raises(OptionError, match=r"^the programme says what the head does"):
        talk_commands(Places(tmp_path), tmp_path, tmp_path, tmp_path, None, settings)


def test_head_of_a_video_needs_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^give the video"):
        talk_commands(Places(tmp_path), tmp_path, tmp_path, tmp_path, None, TalkSettings("me", HEADS[-1]))


def test_other_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, film = Places(tmp_path), tmp_path / "a film.mp4"
    (line,) = personal_commands(places, "me", [film], [film, film], "--minutes", "2", "--use_all")
    made = understood(line, monkeypatch)
    assert (made.video, made.photo, made.minutes, made.use_all) == ([film], [film, film], 2.0, True)
    assert understood(personal_commands(places, "me", [], [])[0], monkeypatch).go_on
    assert understood(personal_commands(places, "me", [film], [], "--check")[0], monkeypatch).check
    assert understood(crop_commands(film, tmp_path / "x")[0], monkeypatch).output == tmp_path / "x"
    (line,) = compare_commands({"a": film, "b,c": film}, film, tmp_path, tmp_path / "out")
    assert understood(line, monkeypatch).pairs == tmp_path / "pairs.csv"
    from data.video_pairs import pairs_from_csv

    pairs, _ = pairs_from_csv(tmp_path / "pairs.csv")
    assert [(pair.name, pair.real) for pair in pairs] == [("a", film), ("b,c", film)]


def test_models_that_can_speak_are_listed_the_personal_ones_with_their_kind(tmp_path: Path) -> None:
    for name in ("zoe", "synthetic"):
        write_tiny_model(tmp_path / name)
    (tmp_path / "zoe" / "personal.json").write_text("{}")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "latest_net_G.pth").touch()
    found = models(Places(tmp_path, tmp_path))
    assert found == [("synthetic (in the box, synthetic people only)", "synthetic"), ("zoe (personal)", "zoe")]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "demo", "x" * 41, "ü"])
def test_name_that_is_no_folder_or_is_taken_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"name of a model"):
        require_model_name(name)


def test_what_is_shown_of_a_job_holds_no_html_of_others(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    job = queue.add(Job(queue.new_folder(), "talk", "<b>x", ("echo '<script>' >&2; exit 1",), time.time()))
    assert show_job(job, queue) == "<div class='say ' role='status'><p>Waiting: no jobs before this one.</p></div>"
    queue.start()
    wait_until(lambda: job.state == FAILED)
    queue.close()
    assert "The last it said: &lt;script&gt;" in show_job(job, queue)
    second = queue.add(Job(queue.new_folder(), "talk", "<b>x", ("bash -c 'echo begun; exec sleep 60'",), time.time()))
    jobs_module._start(second)
    wait_until(lambda: "begun" in second.log)  # before that a signal may hit a shell that is about to start it
    assert "Running: &lt;b&gt;x. No jobs waiting." in show_queue(queue)
    queue.cancel(second)
    wait_until(lambda: second.state == STOPPED)


def answer(path: str, headers: dict[bytes, bytes], body: list[bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    """What a guarded program answers that reads everything, and says how much it was."""
    sent: list[dict[str, Any]] = []
    parts = [*({"body": part, "more_body": True} for part in body), {"body": b"", "more_body": False}]

    async def program(_: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers.items())}
    asyncio.run(Guard(program, most_bytes=100)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_upload_that_says_or_turns_out_to_be_too_large_is_refused() -> None:
    assert answer("/upload", {b"content-length": b"100"}, [b"x" * 60, b"x" * 40])[::2] == (200, b"100")
    too_large = b"the file is larger than the 0 MB that are taken; cut or reduce it"
    assert answer("/upload", {b"content-length": b"101"}, [])[::2] == (413, too_large)
    assert answer("/upload", {}, [b"x" * 60, b"x" * 41])[::2] == (413, too_large)
    assert answer("/upload", {b"content-length": b"-1"}, [])[0] == 413


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=http://a/b", "/gradio_api/file=https%3A//a", "/file=http:/a", "/gradio_api/proxy=http://a"],
)
def test_page_fetches_no_addresses_for_others(path: str) -> None:
    assert answer(path, {}, [])[0] == 403


def test_files_come_without_the_right_to_run_scripts() -> None:
    status, headers, _ = answer("/gradio_api/file=/a/b.html", {}, [])
    assert (status, headers[b"content-security-policy"]) == (200, b"sandbox; default-src 'none'")
    assert b"content-security-policy" not in answer("/", {}, [])[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--share"], "--share shows the page to everybody; add --auth user:password"),
        (["--share", "--auth", "anna:short"], "--auth must be user:password, with a password of 8 characters at least"),
        (["--gpu_ids", "0; rm x"], "--gpu_ids must be numbers such as 0 or 0,1, or -1 for the CPU, got 0; rm x"),
    ],
)
def test_flags_that_cannot_be_honoured(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["--work_dir", str(tmp_path), *flags]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_without_gradio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert app.main(["--work_dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("; pip install -r requirements-app.txt\n")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A page of its own, with a tiny model beside the one in the box."""
    root = tmp_path_factory.mktemp("page")
    write_tiny_model(root / "models" / "tiny")
    shutil.copytree(ROOT / "checkpoints" / "synthetic", root / "models" / "synthetic")
    with open_page(root) as served:
        yield served


@contextlib.contextmanager
def open_page(root: Path) -> Iterator[SimpleNamespace]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    work = root / "work"
    flags = ["--port", str(port), "--work_dir", str(work), "--checkpoints_dir", str(root / "models"), "--gpu_ids", "-1"]
    log = root / "page.log"
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, "app.py", *flags], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "open http" in log.read_text() or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/", port=port, root=root, work=work, server=server, log=log)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def client_of(page: SimpleNamespace) -> Any:
    from gradio_client import Client

    return Client(page.url, verbose=False, download_files=str(page.root / "downloads"))


def inputs(page: SimpleNamespace) -> tuple[Any, Any]:
    from gradio_client import handle_file

    return handle_file(page.work / "examples" / "anna.jpg"), handle_file(page.work / "examples" / "anna.wav")


@needs_gradio
def test_script_of_the_docs_makes_a_video(page: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "page.md").read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(block.replace("http://127.0.0.1:7860", page.url), "page.md", "exec"), names)
    found = probe(Path(names["video"]))
    assert (found.video_frames, found.width, found.height) == (133, 224, 224)
    job = next(path for path in sorted((page.work / "jobs").iterdir()) if (path / "results").is_dir())
    assert names["command"] == "\n".join(json.loads((job / "job.json").read_text())["commands"])


@needs_gradio
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"photo": None}, "give a photo first, or press an example"),
        ({"model": "../tiny"}, r"there is no model \.\./tiny"),
        ({"head": PROGRAMME, "programme": "/etc/passwd"}, "the programme says what the head does"),
        ({"photo": "text.jpg"}, "text.jpg: not a readable picture|text.jpg: neither|text.jpg: "),
        ({"photo": "bomb.png"}, "bomb.png: has 60000x60000 pixels, more than the"),
        ({"head": "nod", "model": "tiny", "blink": "follow"}, ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_error_is_the_sentence_of_the_command_line(
    page: SimpleNamespace, change: dict[str, Any], sentence: str
) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    (page.root / "text.jpg").write_text("no picture")
    (page.root / "bomb.png").write_bytes(png_header(60000, 60000))
    photo, voice = inputs(page)
    given = {"photo": photo, "voice": voice, "head": "still", "model": "tiny", **change}
    if str(given["photo"]).endswith(("text.jpg", "bomb.png")):
        given["photo"] = handle_file(page.root / given["photo"])
    if not sentence:
        assert client_of(page).predict(**given, api_name="/talk")[0]
        return
    with pytest.raises(AppError, match=sentence) as caught:
        client_of(page).predict(**given, api_name="/talk")
    assert "Traceback" not in str(caught.value)
    assert str(page.root) not in str(caught.value)


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims so many pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def get(page: SimpleNamespace, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


@needs_gradio
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        str(ROOT / "app.py"),
        "app.py",
        "../app.py",
        "{work}/.in_use",
        "{work}/jobs/../.in_use",
        "{work}/jobs/../../page.log",
        "{work}/jobs/%2e%2e/%2e%2e/page.log",
        "{root}/models/tiny/network.json",
        "file:///etc/passwd",
        "http://127.0.0.1/",
    ],
)
def test_nothing_beside_results_is_served(page: SimpleNamespace, path: str) -> None:
    place = path.format(work=page.work, root=page.root)
    for prefix in ("/gradio_api/file=", "/file="):
        assert get(page, f"{prefix}{place}")[0] in (403, 404)


@needs_gradio
def test_example_is_served(page: SimpleNamespace) -> None:
    status, body = get(page, f"/gradio_api/file={page.work / 'examples' / 'anna.jpg'}")
    assert (status, body) == (200, (ROOT / "misc" / "Input" / "synthetic_anna" / "000000.jpg").read_bytes())


@needs_gradio
def test_upload_of_two_gigabytes_is_refused_before_it_is_sent(page: SimpleNamespace) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(2 << 30))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.read()) == (
        413,
        b"the file is larger than the 200 MB that are taken; cut or reduce it",
    )


@needs_gradio
def test_page_names_no_other_host_and_reports_to_nobody(page: SimpleNamespace) -> None:
    config = json.loads(get(page, "/config")[1])
    assert config["analytics_enabled"] is False
    assert not re.search(r"fonts\.g|cdn|amplitude", json.dumps(config.get("stylesheets")))


@needs_gradio
def test_second_page_of_a_work_folder_says_who_has_it(page: SimpleNamespace) -> None:
    command = [sys.executable, "app.py", "--work_dir", str(page.work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"--work_dir {page.work}: is in use by process {page.server.pid} " in done.stderr


@needs_gradio
def test_report_keeps_the_columns_of_its_table(tmp_path: Path) -> None:
    from scripts.page.face import _report

    (tmp_path / "report.txt").write_text("me: 8 s\n\nSSIM     0.5    0.6\n\n- a <b> sentence\n")
    kinds = re.findall(r"<pre class='(\w+)'[^>]*>(.*?)</pre>", _report(tmp_path))
    assert kinds == [("words", "me: 8 s"), ("columns", "SSIM     0.5    0.6"), ("words", "- a &lt;b&gt; sentence")]
    assert _report(tmp_path / "nothing") == ""
