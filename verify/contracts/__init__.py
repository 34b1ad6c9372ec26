"""What consumers require of artifacts, read from `contracts/*.yaml`, and artifacts held against it."""
