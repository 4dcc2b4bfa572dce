"""What the hub says of a model before anything of it is fetched: commit, licence, files and their sizes."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from ..failures import UserError
from ..names import is_device
from .hub_errors import HUB_ERRORS, HubUnreachable, refusal, unusable_proxy
from .weights import INDEX, SINGLE

_ROOT = re.compile(r"[^/\\:]+")  # a file of a subfolder is none of ours, and no name may lead out of the folder
_SMALL = re.compile(r".+\.(json|jinja|model)|merges\.txt|vocab\.txt|README\.md|(LICEN[CS]E|NOTICE|USE_POLICY).*")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SECONDS = 10.0


@dataclass(frozen=True)
class RemoteFile:
    """One file in the root of a repository.

    `etag` is its content's name in the cache; `sha256` is known where the hub stores it as a large file, else empty.
    """

    name: str
    n_bytes: int
    etag: str
    sha256: str


@dataclass(frozen=True)
class HubModel:
    """`commit` is the full hash behind `revision`; `gated` means that its licence has to be accepted first."""

    source: str
    revision: str
    commit: str
    license: str
    gated: bool
    n_parameters: int | None
    files: tuple[RemoteFile, ...]

    @property
    def small_files(self) -> list[RemoteFile]:
        """Configuration, tokenizer, licence and card: all but weights and program code; config.json comes first."""
        files = [file for file in self.files if _SMALL.fullmatch(file.name)]
        return sorted(files, key=lambda file: file.name != "config.json")

    @property
    def code_files(self) -> list[RemoteFile]:
        return [file for file in self.files if file.name.endswith(".py")]

    @property
    def index(self) -> RemoteFile | None:
        return next((file for file in self.files if file.name == INDEX), None)

    def weight_files(self, index: Path | None) -> list[RemoteFile]:
        """The weights that `index` names, or those with the usual names; UserError if none is safetensors."""
        names = {file.name for file in self.files}
        if index is not None:
            wanted = _named_in(index)
        elif SINGLE in names and INDEX not in names:
            wanted = {SINGLE}
        else:
            wanted = {name for name in names if _WEIGHTS.fullmatch(name) and name != SINGLE}
        if missing := sorted(wanted - names):
            raise UserError(
                "The weights of {source} are incomplete on the hub: {name} is missing.",
                "Choose another model, or another revision of this one.",
                source=self.source,
                name=missing[0],
            )
        if not wanted or not all(name.endswith(".safetensors") for name in wanted):
            raise _no_safetensors(self.source, names)
        return [file for file in self.files if file.name in wanted]


def look_up(source: str, revision: str) -> HubModel:
    """Ask the hub about a model; HubUnreachable if it does not answer, UserError if it says no."""
    try:
        info = HfApi().model_info(source, revision=revision, files_metadata=True, timeout=_SECONDS)
    except HUB_ERRORS as error:
        raise refusal(error, source, revision) from error
    except (ImportError, ValueError, KeyError, TypeError) as error:  # a login page of the network, say
        if proxy := unusable_proxy():
            raise proxy from error
        if isinstance(error, ImportError):
            raise
        raise _no_description(source) from error
    files = [_remote(sibling) for sibling in info.siblings or () if _is_ours(sibling.rfilename)]
    if not _HASH.fullmatch(info.sha or "") or not files or not all(_HASH.fullmatch(file.etag) for file in files):
        raise _no_description(source)
    return HubModel(
        source,
        revision,
        str(info.sha),
        _license(info),
        bool(info.gated),
        info.safetensors.total if info.safetensors else None,
        tuple(files),
    )


def _named_in(index: Path) -> set[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            "{index} is not readable as an index of weight files.", "Download the model again.", index=index
        ) from error
    return {str(name) for name in names}


def _is_ours(name: str) -> bool:
    return _ROOT.fullmatch(name) is not None and name.isprintable() and not is_device(name)


def _remote(sibling: RepoSibling) -> RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    return RemoteFile(sibling.rfilename, sibling.size or 0, sha256 or sibling.blob_id or "", sha256)


def _license(info: ModelInfo) -> str:
    """The card's own words; a licence of the maker's own ("other") has its name in another field."""
    card = info.card_data.to_dict() if info.card_data else {}
    names = [card.get("license_name"), card.get("license")]
    if card.get("license") != "other":
        names.reverse()
    return next((str(name) for name in names if name), "unknown")


def _no_description(source: str) -> HubUnreachable:
    return HubUnreachable(
        "What answered about {source} is not the hub, or not a whole answer.",
        "Check whether this network wants a login or a proxy first; HF_ENDPOINT must name a hub if it is set.",
        source=source,
    )


def _no_safetensors(source: str, names: set[str]) -> UserError:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return UserError(
            "{source} offers its weights only in a format that can carry program code (.bin).",
            "Choose a model with *.safetensors files; many have a converted copy on the hub.",
            source=source,
        )
    return UserError(
        "{source} has no weights in safetensors format.",
        "Choose a model whose files on the hub include model.safetensors.",
        source=source,
    )
