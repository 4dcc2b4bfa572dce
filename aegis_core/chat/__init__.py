"""Talking with the model: Ollama, or llama.cpp inside the child process."""
