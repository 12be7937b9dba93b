"""The page in headless Chromium: an example, a wrong upload, cancel, a second visitor, a personal model, a phone."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import TINY, write_tiny_model
from tests.test_app import NO_GRADIO, ROOT, open_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = {"gradio": NO_GRADIO, "playwright": importlib.util.find_spec("playwright") is None, "Chromium": not CHROMIUM}
LACKING = ", ".join(name for name, lacks in MISSING.items() if lacks)
WAIT_MS = 150_000
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(LACKING), reason=f"{LACKING} not installed")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    root = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "checkpoints" / "synthetic", root / "models" / "synthetic")
    write_tiny_model(root / "models" / "tiny")
    with open_page(root) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, page: SimpleNamespace) -> Iterator[Any]:
    """Opens the page for a new visitor."""
    contexts = []

    def open_it(width: int = 1280) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        contexts[-1].set_default_timeout(WAIT_MS)
        tab = contexts[-1].new_page()
        tab.addresses = []
        tab.on("request", lambda request: tab.addresses.append(request.url))
        tab.goto(page.url)
        tab.wait_for_selector("#make")
        return tab

    yield open_it
    for context in contexts:
        context.close()


def press_example(tab: Any) -> None:
    tab.get_by_role("button", name="Example: Anna").click()
    tab.wait_for_selector("#crop figure img")


def says(tab: Any, words: str, place: str = "#talk-status") -> None:
    tab.locator(place).filter(has_text=re.compile(words)).wait_for()


def test_example_plays_and_nothing_comes_from_elsewhere(visit: Any, page: SimpleNamespace) -> None:
    tab = visit()
    press_example(tab)
    tab.click("#make")
    says(tab, r"Done in .* 133 frames\.")
    size = tab.wait_for_selector("#made video").evaluate(
        "v => new Promise(done => { const tell = () => { v.muted = true; v.play();"
        " v.ontimeupdate = () => v.currentTime > 0.3 && done([v.videoWidth, v.videoHeight, v.duration]); };"
        " v.readyState ? tell() : v.onloadeddata = tell; })"
    )
    assert size == [224, 224, pytest.approx(5.32, abs=0.1)]
    command = tab.locator(".command textarea").first.input_value()
    assert [line.split()[:2] for line in command.splitlines()] == [
        ["python", "scripts/prepare_testing_files.py"],
        ["python", "test.py"],
    ]
    assert [url for url in tab.addresses if not url.startswith((page.url, "data:", "blob:"))] == []


def test_wrong_upload_gives_its_sentence(visit: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "<b>me.jpg"
    wrong.write_text("no picture")
    tab = visit()
    tab.locator("input[type=file]").first.set_input_files(wrong)
    says(tab, r"me\.jpg: not a readable picture", "#crop")
    assert "Traceback" not in tab.content()


def test_second_visitor_waits_and_cancel_keeps_what_is_finished(visit: Any) -> None:
    first, second = visit(), visit()
    for tab in (first, second):
        press_example(tab)
    first.click("#make")
    says(first, "Preparing|Loading|frames")
    second.click("#make")
    says(second, r"Waiting: 1 job before this one\.")
    says(second, "1 job waiting", "#queue")
    first.click("#cancel")
    says(first, r"Stopped\. What was finished is kept\.")
    says(second, r"Done in .* 133 frames\.")
    second.get_by_role("tab", name="Results").click()
    second.wait_for_selector("#gallery img")
    says(second, "anna speaks, by synthetic.*stopped.*", "#jobs")


def test_personal_model_of_a_tiny_run_appears_in_the_list(visit: Any, page: SimpleNamespace) -> None:
    tab = visit()
    shutil.copytree(page.root / "models" / "tiny", page.root / "models" / "me")
    (page.root / "models" / "me" / "personal.json").write_text('{"steps": 3}')
    tab.get_by_role("tab", name="My face").click()
    tab.get_by_role("tab", name="Talk").click()
    tab.get_by_label("Model", exact=True).first.click()
    tab.get_by_role("option", name="me (personal)").click()
    press_example(tab)
    tab.click("#make")
    says(tab, r"Done in .* 133 frames\.")
    assert (
        tab.wait_for_selector("#made video").evaluate(
            "v => new Promise(done => v.readyState ? done(v.videoWidth) : v.onloadeddata = () => done(v.videoWidth))"
        )
        == TINY.crop_size
    )


@pytest.mark.parametrize("name", ["Talk", "My face", "Compare", "Results"])
def test_nothing_is_wider_than_a_phone_and_everything_has_a_label(visit: Any, name: str) -> None:
    tab = visit(380)
    if tab.get_by_role("tab", name=name).count() == 0:  # those that do not fit are in a menu
        tab.locator(".overflow-menu button").first.click()
    tab.get_by_role("tab", name=name).or_(tab.get_by_role("button", name=name, exact=True)).first.click()
    tab.wait_for_timeout(500)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    nameless = tab.evaluate(
        "[...document.querySelectorAll('button, input, textarea, select')].filter(e => e.offsetParent &&"
        " !(e.labels && e.labels.length) && !e.ariaLabel && !e.title && !e.innerText.trim() &&"
        " !e.getAttribute('aria-labelledby') && e.type !== 'file').map(e => e.outerHTML.slice(0, 120))"
    )
    assert nameless == []
