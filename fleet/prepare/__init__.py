"""The fixes that need no reboot and can be undone: findings in, fixes out, carried out over a session."""

from fleet.prepare.execute import carry_out, look, make_ready
from fleet.prepare.fix import Fix
from fleet.prepare.plan import by_hand, plan

__all__ = ["Fix", "by_hand", "carry_out", "look", "make_ready", "plan"]
