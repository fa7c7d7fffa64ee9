"""The proxy of the environment that a request to a registry goes through: where one fails, it may be the reason."""

from urllib.parse import urlparse

import requests.utils


def hint(url: str) -> str:
    """What to look at, "" where no proxy is used. The password that a proxy's URL may hold is not shown."""
    target = urlparse(url)
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url, no_proxy=None))
    if not found:
        return ""
    proxy = urlparse(found if "://" in found else f"http://{found}")
    named = f"{proxy.scheme}://{proxy.hostname}{f':{proxy.port}' if proxy.port else ''}"
    return f"it was asked through the proxy {named} of ${target.scheme}_proxy; add {target.hostname} to no_proxy if it is near"
