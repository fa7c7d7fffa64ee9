"""What the verbs do, start to end: inventory, hosts, calls into the library, one report, an exit code."""
