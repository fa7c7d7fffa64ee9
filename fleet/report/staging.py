"""What lies staged on hosts, for a person and for machines."""

from collections.abc import Mapping

from fleet.delivery.staging import Staging
from fleet.report import terminal
from fleet.report.recap import duration
from fleet.report.units import size


def show(found: Mapping[str, Staging]) -> None:
    """A line for each image; hosts with nothing are left out, and said where that is all of them."""
    lines = 0
    for host, staging in found.items():
        for image in staging.images:
            lines += 1
            have, whole = staging.held(image), sum(image.needs.values())
            share = f" ({have * 100 // whole} %)" if whole else ""
            where = f"in {staging.directory}, last tried {duration(image.age)} ago"
            terminal.host_line(host, f"{image.name}: {size(have)} of {size(whole)}{share} {where}")
    if not lines and found:
        terminal.out().print("nothing is staged")


def document(found: Mapping[str, Staging]) -> dict[str, object]:
    """`{hosts: {HOST: {directory, free, images: [{name, config, bytes, size, age}]}}}`; bytes, seconds."""
    return {
        "hosts": {
            host: {
                "directory": staging.directory,
                "free": staging.free,
                "images": [
                    {
                        "name": image.name,
                        "config": image.config,
                        "bytes": staging.held(image),
                        "size": sum(image.needs.values()),
                        "age": image.age,
                    }
                    for image in staging.images
                ],
            }
            for host, staging in found.items()
        }
    }
