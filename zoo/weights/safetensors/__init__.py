"""The safetensors format: a strict header, tensors mapped or streamed, one file or several."""
