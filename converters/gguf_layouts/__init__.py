"""What public ggml runtimes expect of a GGUF file, network by network: architecture, keys, tensor names and types."""
