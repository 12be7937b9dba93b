"""Speaks with libespeak-ng and tells when each phone begins; `recorded` runs this file as a program of its own.

    python espeak_child.py de+f2 < text.txt

Standard output: a line of JSON, {"rate_hz": 22050, "phones": [["ð", 0.011], ...]} with phones in IPA, then the sound as
16-bit samples, little endian.
"""

from __future__ import annotations

import ctypes
import json
import sys

LIBRARIES = ("libespeak-ng.so.1", "libespeak-ng.1.dylib", "libespeak-ng.dll")
# of speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
PHONEME_EVENTS_IN_IPA = 3
EVENT_END_OF_LIST, EVENT_PHONEME = 0, 7
TEXT_IN_UTF8 = 1


class Event(ctypes.Structure):
    """espeak_EVENT; the last field is a union whose largest member is a string of 8 bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phone", ctypes.c_char * 8),
    )


def open_library() -> ctypes.CDLL:
    """Raises OSError when it is not installed."""
    for name in LIBRARIES[:-1]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return ctypes.CDLL(LIBRARIES[-1])


def main() -> int:
    """Entry point; returns the exit status."""
    library = open_library()
    sound: list[bytes] = []
    starts: list[tuple[str, int]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))
    def collect(samples: int | None, count: int, events: ctypes._Pointer[Event]) -> int:
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, 2 * count))
        number = 0
        while events[number].type != EVENT_END_OF_LIST:
            if events[number].type == EVENT_PHONEME:
                starts.append((events[number].phone.decode("utf-8", "ignore"), events[number].sample))
            number += 1
        return 0

    rate_hz = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, None, PHONEME_EVENTS_IN_IPA)
    library.espeak_SetSynthCallback(collect)
    if rate_hz <= 0 or library.espeak_SetVoiceByName(sys.argv[1].encode()) != 0:
        sys.stderr.write(f"espeak-ng has no voice {sys.argv[1]}\n")
        return 1
    text = sys.stdin.buffer.read()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, TEXT_IN_UTF8, None, None)
    library.espeak_Synchronize()
    told = {"rate_hz": rate_hz, "phones": [(name, sample / rate_hz) for name, sample in starts]}
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + b"".join(sound))
    return 0


if __name__ == "__main__":
    sys.exit(main())
