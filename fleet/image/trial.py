"""A brought image on the builder's engine for as long as it is tried there: proved like one that was built."""

from fleet.errors import FleetError
from fleet.image import build, docker_archive
from fleet.image.layout import LayoutImage
from fleet.image.machine import Machine
from fleet.image.scratch import scratch
from fleet.image.workshop import Workshop


def prove(workshop: Workshop, image: LayoutImage, name: str, key: str) -> str:
    """Why the image was not tried, "" where it was or need not be. Raises FleetError where it is not fit."""
    if workshop.prove is None:
        return ""
    machine = workshop.machine
    if not build.builder_of(machine).engine:
        return f"it was not tried, for no Docker engine answers on {machine.name}"
    _remove(machine, f"{name}:smoke-*")  # what a killed controller left
    tag = f"{name}:smoke-{key}"
    try:
        _load(workshop, image, tag)
        workshop.prove(tag)
    finally:
        _remove(machine, tag)
    return ""


def _load(workshop: Workshop, image: LayoutImage, tag: str) -> None:
    machine = workshop.machine
    workshop.on_line(f"bringing {tag} to {machine.name}, to try it")
    with scratch(image.path.parent) as folder:
        archive = folder / "image.tar"
        docker_archive.write(image, tag, archive)
        with machine.place(archive) as there:
            done = machine.run(("docker", "load", "--input", there))
    if not done.ok:
        raise FleetError(f"{machine.name} cannot load {tag}: {(done.stderr or done.stdout).strip()[-200:]}")


def _remove(machine: Machine, pattern: str) -> None:
    """Its tag goes; the image stays where another name holds it."""
    form = ("--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={pattern}")
    for tag in machine.run(("docker", "image", "ls", *form)).stdout.split():
        machine.run(("docker", "image", "rm", "--force", tag))
