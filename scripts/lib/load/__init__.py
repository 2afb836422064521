"""scripts/load: bridges with streams that speak in real time, against vLLM servers."""
