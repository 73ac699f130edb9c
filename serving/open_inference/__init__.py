"""The Open Inference Protocol (V2) over HTTP, so that stock clients list, check and ask the served models."""
