"""Help texts that several tasks share."""

TAKE_OVER = (
    "A foreign container to replace; it is stopped, kept and put back like our own. Several with commas between."
)
SERVICE = "Service to act on."
ROLL = {
    "lock_wait": "How long to wait for hosts that another run holds: 90s, 5m.",
    "include_quarantined": "Take in hosts that an earlier run could not reach.",
}
AGAIN = {
    "resume": "Go on where a killed run stopped: its id, or nothing for the last one.",
    "only_failed": "Only the hosts that failed or were not reached in the last run.",
}
ALLOWED = "Whose signature counts: an allowed_signers file of OpenSSH."
UNSIGNED = "Ask for no signature; checksums are compared all the same, and layers are looked into."
STORE = "The site's blob store (default .fleet/store)."
BUNDLE = {
    "bundle": "Take the releases from this bundle alone, after checking it whole: nothing is built and nothing looked up.",
    "store": STORE,
    "allowed_signers": ALLOWED,
    "unsigned": UNSIGNED,
}
LISTS = {
    "stages": "Only these stages, with commas between.",
    "list_stages": "Show the plays and their stages, and do nothing.",
    "list_hosts": "Show the plays and their hosts, and do nothing.",
}
