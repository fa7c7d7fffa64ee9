"""The checks, one small pure function each, by subject."""

from fleet.preflight.checks import devices, docker, driver, gpus, health, host, models, room, services

__all__ = ["devices", "docker", "driver", "gpus", "health", "host", "models", "room", "services"]
