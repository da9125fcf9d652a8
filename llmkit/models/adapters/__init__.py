"""LoRA adapters: attach, merge, save and load; quantized base weights."""
