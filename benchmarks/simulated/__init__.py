"""Hosts that are not there: an SSH server each, with a Docker engine, GPUs and a vLLM that answer after set delays.

They run in processes of their own, so that what a controller costs is measured alone:

    with simulated(folder, 50) as fleet:
        fleet.run("deploy", release=0)
"""
