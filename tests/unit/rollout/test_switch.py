"""What a host does by itself when it loses us."""

from fleet.locks import WAIT_ENGINE, WAIT_GPUS_IDLE
from fleet.rollout.switch import Switch, commands
from fleet.serving.steps import FreeVram, Remove, SaveLogs, SetRestart, Start, Step, Stop, Wait

UNDO: tuple[Step, ...] = (
    SaveLogs("chat-0-new", ""),
    Stop("chat-0-new", 60, ""),
    FreeVram(None, ""),
    SetRestart("chat-0", "unless-stopped", ""),
    Start("chat-0", ""),
    Remove("chat-0-new", ""),
    Wait("chat-0", "chat", 8000, ""),
)


class Lock:
    def __init__(self) -> None:
        self.said: list[object] = []

    def check(self) -> None:
        self.said.append("check")

    def arm(self, wanted: object) -> None:
        self.said.append(wanted)

    def disarm(self) -> None:
        self.said.append("disarm")

    def abandon(self) -> None:
        self.said.append("abandon")


def test_the_undo_becomes_docker_commands_in_its_order_and_nothing_is_removed() -> None:
    assert commands(UNDO) == (
        WAIT_ENGINE,
        ("docker", "stop", "--time", "60", "chat-0-new"),
        (*WAIT_GPUS_IDLE, "chat-0"),
        ("docker", "update", "--restart", "unless-stopped", "chat-0"),
        ("docker", "start", "chat-0"),
    )


def test_where_no_old_container_is_there_nothing_is_armed() -> None:
    lock = Lock()
    switch = Switch(lock)
    switch.arm((SaveLogs("chat-0-new", ""), Stop("chat-0-new", 60, ""), Remove("chat-0-new", "")))
    switch.disarm()
    assert lock.said == []


def test_an_armed_switch_is_disarmed_once() -> None:
    lock = Lock()
    switch = Switch(lock)
    switch.arm(UNDO)
    switch.disarm()
    switch.disarm()
    assert lock.said == [commands(UNDO), "disarm"]


def test_only_an_armed_host_is_given_up_so_that_it_puts_back_by_itself() -> None:
    lock = Lock()
    switch = Switch(lock)
    switch.leave()
    assert lock.said == []
    switch.arm(UNDO)
    switch.leave()
    switch.disarm()
    assert lock.said == [commands(UNDO), "abandon"]
