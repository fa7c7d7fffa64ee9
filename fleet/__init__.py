"""Roll vLLM out to AMD GPU clusters: check, build once, deliver, serve, prove."""
