"""Serves the page: on this machine alone unless told otherwise, and nothing but its work folder."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from scripts.page.commands import Places
from scripts.page.guard import MOST_BYTES, Guard
from scripts.page.jobs import KEPT_S, JobQueue
from util.errors import OptionError
from util.files import make_directory
from util.locks import folder_lock

_MOST_EVENTS = 60  # that wait at once for their turn; Gradio refuses more
_QUIET = {  # nothing is reported to anybody
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Access:
    """port: None takes 7860 or the next that is free.  login: user and password.  listen: to the whole network."""

    port: int | None = None
    login: tuple[str, str] | None = None
    listen: bool = False
    share: bool = False


def serve(places: Places, access: Access) -> None:
    """Serves until Ctrl-C. Raises OptionError: the packages are not there, or the port is taken."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ |= _QUIET | {"GRADIO_TEMP_DIR": str(make_directory(places.work / "uploads").absolute())}
    try:
        import gradio
    except ImportError as error:
        raise OptionError(f"the page needs gradio ({error}); pip install -r requirements-app.txt") from error
    from scripts.page import layout
    from scripts.page.parts import Page

    # a shell that starts this in the background lets it ignore Ctrl-C, and jobs would do so, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with folder_lock(places.work, "--work_dir"):
        queue = JobQueue(places.work)
        blocks = layout.build(Page(places, queue))
        blocks.queue(max_size=_MOST_EVENTS, api_open=False)
        blocks.delete_cache = (3600, int(KEPT_S))
        queue.start()
        try:
            _, local, shared = blocks.launch(
                server_name="0.0.0.0" if access.listen else "127.0.0.1",
                server_port=access.port,
                auth=access.login,
                share=access.share,
                theme=layout.theme(),
                css=layout.CSS,
                allowed_paths=[str(places.work.absolute() / name) for name in ("jobs", "examples")],
                max_file_size=MOST_BYTES,
                app_kwargs={"middleware": _guards(), "docs_url": None, "redoc_url": None, "openapi_url": None},
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                show_error=True,
                quiet=True,
                inbrowser=False,
                prevent_thread_lock=True,
            )
            print(f"open {local}", flush=True)
            if shared:
                print(f"shared as {shared} for a week, with the user and password that you gave", flush=True)
            elif access.share:
                print("no public address could be had; the lines above say why", flush=True)
            threading.Event().wait()
        except OSError as error:
            if access.port is None or "port" not in str(error):
                raise
            raise OptionError(f"--port {access.port}: is taken; choose another, or leave it out") from error
        finally:
            with contextlib.suppress(Exception):
                gradio.close_all(verbose=False)
            queue.close()


def _guards() -> list[object]:
    from starlette.middleware import Middleware

    return [Middleware(Guard)]


def login_of(text: str) -> tuple[str, str]:
    """User and password from `user:password`. Raises OptionError."""
    user, _, password = text.partition(":")
    if not user or len(password) < 8:
        raise OptionError("--auth must be user:password, with a password of 8 characters at least")
    return user, password


def work_folder(path: Path) -> Path:
    """Raises MediaError: it cannot be made."""
    return make_directory(path).absolute()
