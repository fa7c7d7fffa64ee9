"""Where a host reaches its own replicas."""

from dataclasses import replace

import pytest

from fleet.serving.address import address_in, address_of
from tests.unit.serving.make import built, service, serving


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "localhost"])  # noqa: S104  nothing is bound here
def test_a_service_that_listens_everywhere_is_reached_at_loopback(bound: str) -> None:
    assert address_of(service(host=bound)) == "127.0.0.1"


def test_a_service_that_is_bound_to_one_address_is_reached_there() -> None:
    assert address_of(service(host="10.0.0.5")) == "10.0.0.5"
    assert serving(built(service(host="10.0.0.5")).spec).address == "10.0.0.5"


def test_a_published_port_is_reached_at_loopback_whatever_is_bound_inside() -> None:
    assert address_of(service(host="10.0.0.5", network="bridge")) == "127.0.0.1"
    assert serving(built(service(host="10.0.0.5", network="bridge")).spec).address == "127.0.0.1"


def test_a_container_is_asked_where_it_was_told_to_listen_not_where_the_inventory_says_today() -> None:
    one = serving(built(service(host="10.0.0.5")).spec)
    assert replace(one, arguments=("model", "--host", "10.0.0.6", "--port", "8000")).address == "10.0.0.6"
    assert address_in(("vllm", "serve", "model"), "host") == "127.0.0.1"
