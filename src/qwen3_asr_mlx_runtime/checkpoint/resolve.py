"""The name of a model → the folder that holds its files."""

from pathlib import Path

from qwen3_asr_mlx_runtime.checkpoint.files import check_files
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.errors import ModelIncomplete, ModelNotFound
from qwen3_asr_mlx_runtime.model_name import DEMO, is_repository

DEMO_FOLDER = Path(__file__).parent.parent / "demo"
DEMO_ALIGNER_FOLDER = Path(__file__).parent.parent / "demo_aligner"


def resolve(
    model: str,
    hub: Hub | None = None,
    *,
    local_files_only: bool = False,
    report: Reporter | None = None,
) -> Path:
    """`demo`, a folder, or `owner/name` on the Hugging Face hub → a folder with every file the model needs.

    A complete snapshot in the cache is used without network access; otherwise it is downloaded
    unless `local_files_only`. Raises ModelNotFound, ModelIncomplete, ModelCorrupt, ModelUnsupported, DiskFull or
    DownloadFailed.
    """
    folder = DEMO_FOLDER if model == DEMO else _folder(model)
    if folder is not None:
        return _checked(folder)
    if not is_repository(model):
        raise ModelNotFound("the model is neither `demo`, nor a folder, nor owner/name on the hub", model=model)
    return _snapshot(model, hub, local_files_only, report or Reporter())


def resolve_aligner(
    aligner: str, hub: Hub | None = None, *, local_files_only: bool = False, report: Reporter | None = None
) -> Path:
    """Like `resolve`; `demo` is the embedded aligner. Raises ModelNotFound for it where none is embedded."""
    if aligner != DEMO:
        return resolve(aligner, hub, local_files_only=local_files_only, report=report)
    if not DEMO_ALIGNER_FOLDER.is_dir():
        raise ModelNotFound("no aligner is embedded: name one with --aligner", model=aligner)
    return _checked(DEMO_ALIGNER_FOLDER)


def _folder(model: str) -> Path | None:
    try:
        folder = Path(model).expanduser()
        return folder if model and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError) as error:  # the name is too long, or its home folder is unknown
        raise ModelNotFound("cannot read the model folder", reason=type(error).__name__) from error


def _checked(folder: Path) -> Path:
    try:
        check_files(folder)
    except OSError as error:
        raise ModelNotFound("the model's files cannot be read", reason=type(error).__name__) from error
    return folder


def _snapshot(repo: str, hub: Hub | None, local_files_only: bool, report: Reporter) -> Path:
    from qwen3_asr_mlx_runtime.checkpoint.download import download

    hub = hub or Hub()
    try:
        folder = _cached(repo, hub)
        if folder is not None:
            return _checked(folder)
    except ModelIncomplete:
        if local_files_only:
            raise
    if local_files_only:
        raise ModelNotFound(
            "the model is not in the cache: start once without --local-files-only, or name a folder",
            model=repo,
            offline=True,
            cache_dir=str(hub.cache or "") or None,
        )
    return _checked(download(repo, hub, report))


def _cached(repo: str, hub: Hub) -> Path | None:
    """The snapshot in the cache, complete or not; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, cache_dir=hub.cache, local_files_only=True))
    except LocalEntryNotFoundError as error:
        snapshot: str | None = getattr(error, "snapshot_path", None)  # the snapshot exists but lacks files
        return Path(snapshot) if snapshot else None
    except (HFValidationError, OSError, RuntimeError) as error:
        raise ModelNotFound("the cache cannot be read", model=repo, reason=type(error).__name__) from error
