"""From built variants to repositories on the hub: what goes where, what stands in the way, upload and reading back."""
