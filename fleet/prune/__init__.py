"""Taking away what this tool built or brought and nothing needs any more: on hosts, builders, registries, the controller."""
