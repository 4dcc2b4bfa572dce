"""The tone at the end of a run. `python -m aegis_gui.desktop.tone` writes resources/sounds/done.wav anew."""

import array
import math
import sys
import wave
from pathlib import Path

from aegis_core.resources import RESOURCES

DONE = RESOURCES / "sounds" / "done.wav"
RATE = 22_050  # samples a second, 16 bits, one channel
# (Hz, start in s): a fourth upwards, each note with a quiet octave above it.
NOTES = ((587.33, 0.0), (783.99, 0.14))
SECONDS, FADE_SECONDS, ATTACK_SECONDS, LOUDNESS = 1.1, 0.28, 0.008, 0.22


def samples() -> "array.array[int]":
    """The tone as signed 16-bit samples."""
    return array.array("h", (round(32767 * LOUDNESS * _sound(n / RATE)) for n in range(round(SECONDS * RATE))))


def write(path: Path) -> None:
    frames = samples()
    if sys.byteorder == "big":
        frames.byteswap()
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(frames), "NONE", "not compressed"))
        file.writeframes(frames.tobytes())


def _sound(seconds: float) -> float:
    ending = min(1.0, (SECONDS - seconds) / 0.1)
    return ending * sum(_note(pitch, seconds - start) for pitch, start in NOTES if seconds >= start)


def _note(pitch: float, seconds: float) -> float:
    loud = min(1.0, seconds / ATTACK_SECONDS) * math.exp(-seconds / FADE_SECONDS)
    turn = 2 * math.pi * pitch * seconds
    return loud * (math.sin(turn) + 0.25 * math.sin(2 * turn)) / 1.25


if __name__ == "__main__":
    write(DONE)
