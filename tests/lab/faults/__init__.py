"""What happens to rolls, as a table: the fault, how it is brought about, what is promised; and the try itself."""

from tests.lab.faults import containers, controller, hands, hosts, machine, memory
from tests.lab.faults.world import FAULTS

__all__ = ["FAULTS", "containers", "controller", "hands", "hosts", "machine", "memory"]
