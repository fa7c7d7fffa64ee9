"""What every test stands on."""

import signal

# Whoever starts the tests in the background of a shell has Ctrl-C ignored, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
