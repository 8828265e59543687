"""The rules of config: plain values in, a decision out."""
