"""Networks for MLX. `pyannet.py` and `wespeaker.py` import nothing of ours: they become the `model.py` of artifacts."""
