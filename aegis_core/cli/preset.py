"""aegis preset: settings under a name, to begin runs with."""

from typing import Annotated

import typer

from ..failures import UsageError
from ..presets import find_preset, presets, save_preset
from ..run_directory import RunDirectory
from .work import RunFolder

app = typer.Typer(name="preset", help="Settings under a name: list, save, delete.", no_args_is_help=True)


@app.command("list")
def list_presets() -> None:
    """Name them all; a damaged file says what is wrong with it."""
    for preset in presets():
        about = preset.problem.reason if preset.problem else "" if preset.title == preset.name else preset.title
        print(f"{preset.name:<28} {about}".rstrip())


@app.command()
def save(run_dir: RunFolder, name: Annotated[str, typer.Argument(help="Name of the preset.")]) -> None:
    """Keep the settings of a run under a name."""
    print(save_preset(name, RunDirectory.open(run_dir).plan()).path)


@app.command()
def delete(name: Annotated[str, typer.Argument(help="Name of the preset.")]) -> None:
    """Delete a preset of your own."""
    path = find_preset(name).path
    if path is None:
        raise UsageError("{name} comes along with AEGIS.", "Only presets of your own can be deleted.", name=name)
    path.unlink()
