"""Running networks on ggml: a GGUF file is read by ggml, its graph is built from the file alone, and computed."""
