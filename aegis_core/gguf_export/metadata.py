"""What a GGUF file says about where it comes from."""

from dataclasses import dataclass
from pathlib import Path

import gguf

from .. import __version__
from ..soul.gate import Soul
from .naming import name_for_llama_cpp
from .vocabulary import Vocabulary

RUN_KEY = "aegis.run"


@dataclass(frozen=True)
class Metadata:
    """`license` may be empty where it is not known; `soul` is None for a base model as it came.

    `run` is the identity of the run that makes the file, empty for none.
    """

    name: str
    license: str
    soul: Soul | None
    run: str = ""

    def describe(self, writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
        """Write name, licence and, where there is a soul, its base model and the gate's numbers into a GGUF header."""
        writer.add_name(name_for_llama_cpp(self.name, vocabulary.strips_like_phi3))
        writer.add_license(self.license)
        if self.run:
            writer.add_string(RUN_KEY, self.run)
        if self.soul:
            self._describe_soul(writer, self.soul)

    def _describe_soul(self, writer: gguf.GGUFWriter, soul: Soul) -> None:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, _public_name(soul.base_model))
        writer.add_base_model_version(0, soul.base_revision)
        writer.add_string("aegis.version", __version__)
        writer.add_float64("aegis.alpha", soul.alpha)
        writer.add_float64("aegis.sigma", soul.openness)
        writer.add_bool("aegis.calibrated", soul.calibrate)
        writer.add_string("aegis.base_sha256", soul.base_sha256)


def _public_name(source: str) -> str:
    """A hub id as it is; of a local folder only its name, so that no path of this machine travels with the file."""
    path = Path(source)
    return path.name if path.is_absolute() or path.is_dir() else source
