"""`python -m vllm` is `vllm`."""

import sys

from .cli import main

sys.exit(main())
