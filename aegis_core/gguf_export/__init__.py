"""Plain Hugging Face folders written as GGUF, quantised and verified."""
